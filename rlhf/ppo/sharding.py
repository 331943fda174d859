"""FSDP2: policy, original and critic cut over the processes, block by block, and put together again for what is saved.

What is asked of a tensor or a model here is answered for DeepSpeed's parts too (zero.py).

How this differs from accelerate's and TRL's preparation:
1. Each model is a root of its own (policy, original, a critic's trunk, its head), since each is called by itself;
   TRL cuts its reference at the root alone, which gathers it whole.
2. Roots give their parts back after a forward pass too, so sampling leaves nothing whole.
3. Every forward pass is a collective: all processes take equally many (lockstep.py).
4. The plain path is taken: a head that is read outside its module's forward is no tensor of its own.

`torch.distributed.fsdp.fully_shard` does the cutting (docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from rlhf.foundation.causal_lm import cache_name, language_model_in, reads_left_padding
from rlhf.foundation.errors import InputError
from rlhf.ppo import zero
from rlhf.ppo.critic import ActorCritic
from rlhf.ppo.recomputing import required_blocks, trunk_of
from rlhf.ppo.zero import ZeroOptimizer

Meeting = Callable[[], AbstractContextManager[None]]


# -- tensors -----------------------------------------------------------------------------------------------------------


def is_cut(model: Any) -> bool:
    """Whether a model, or what it wraps, lies in parts on several processes."""
    modules: Any = getattr(model, "modules", tuple)  # policy.AdapterOff has them too
    return any(
        isinstance(module, FSDPModule) or any(map(zero.is_parted, module.parameters(recurse=False)))
        for module in modules()
    )


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor; of one that is cut on every process (a collective)."""
    if zero.is_parted(tensor):
        return zero.whole(tensor)
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_part(tensor: Tensor) -> Tensor:
    """What of it lies on this process."""
    if zero.is_parted(tensor):
        return zero.own_part(tensor)
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def cut_like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor, the same on every process, as `parameter` lies: its part alone where that is cut."""
    tensor = tensor.to(parameter.device)
    if not isinstance(parameter, DTensor):
        return tensor
    return distribute_tensor(tensor, parameter.device_mesh, parameter.placements, src_data_rank=None)


@torch.no_grad()
def put(parameter: Tensor, tensor: Tensor) -> None:
    """Set a parameter, wherever it lies, to a whole tensor, the same on every process."""
    if zero.in_engine(parameter):
        zero.put(parameter, tensor)
    else:
        parameter.copy_(cut_like(tensor, parameter))


def moments_of(optimizer: Any, parameter: Tensor) -> Mapping[str, Tensor]:
    """Adam's state of a parameter; {} before the first step."""
    if isinstance(optimizer, ZeroOptimizer):
        return optimizer.moments(parameter)
    state: Mapping[str, Tensor] = optimizer.state.get(parameter, {})
    return state


def put_moments(optimizer: Any, parameter: Tensor, moments: Mapping[str, Tensor]) -> None:
    """Put whole moments back, on their parameter's device."""
    if isinstance(optimizer, ZeroOptimizer):
        optimizer.restore(parameter, moments)
        return
    own = {key: cut_like(tensor.clone(), parameter) for key, tensor in moments.items() if key != "step"}
    optimizer.state[parameter] = {**own, "step": moments["step"].clone().to(parameter.device)}


def clip_grad_norm(parameters: list[Tensor], most: float) -> float:
    """Scale gradients down to a norm of `most`; returns the norm before, over all processes' parts."""
    return float(whole(nn.utils.clip_grad_norm_(parameters, most)))


# -- models ------------------------------------------------------------------------------------------------------------


class WholeCopy:
    """A model to save: the model itself, or of one that is cut an uncut copy on the main process's CPU."""

    def __init__(self, model: Any, *, cut: bool = False, is_main: bool = True) -> None:
        """Before the model is cut; a copy is made where it will be."""
        self.source, self.cut = model, cut
        self.model = copy.deepcopy(model).cpu() if cut and is_main else model

    @torch.no_grad()
    def renew(self) -> None:
        """Bring the copy up to date; every process comes to this, and the main one keeps what is gathered."""
        if not self.cut:
            return
        kept = dict(self.model.named_parameters()) if self.model is not self.source else {}
        for name, parameter in self.source.named_parameters():
            if parameter.requires_grad:
                gathered = whole(parameter).detach()
                if name in kept:
                    kept[name].copy_(gathered)


def cut(policy: Any, reference: Any, learner: nn.Module, device: torch.device, plugin: Any, meeting: Meeting) -> None:
    """Cut what a run holds over all processes, in place; `plugin` is accelerate's, from the launch file.

    `meeting` is told of every forward pass. Raises InputError where a model cannot be cut or read so.
    """
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    offload = plugin.cpu_offload if isinstance(plugin.cpu_offload, OffloadPolicy) else OffloadPolicy()
    for model in [policy, *([reference] if isinstance(reference, nn.Module) else [])]:
        require_even_reading(model, "FSDP")
        _cut_by_block(model, trunk_of(model), mesh, offload, meeting)
    if isinstance(learner, ActorCritic):
        if learner.trunk is not None:
            _cut_by_block(learner.trunk, learner.trunk, mesh, offload, meeting)
        fully_shard(learner.value_head, mesh=mesh, offload_policy=offload, reshard_after_forward=True)


def _cut_by_block(root: Any, trunk: Any, mesh: DeviceMesh, offload: OffloadPolicy, meeting: Meeting) -> None:
    for block in required_blocks(trunk, "accelerate launch, FSDP"):
        fully_shard(block, mesh=mesh, offload_policy=offload, reshard_after_forward=True)
    fully_shard(root, mesh=mesh, offload_policy=offload, reshard_after_forward=True)
    meet_in_forward(root, meeting)


def meet_in_forward(root: nn.Module, meeting: Meeting) -> None:
    """Tell the watch over hanging processes that a forward pass is waited for by all."""
    stacks: list[ExitStack] = []

    def begin(*_: Any) -> None:
        stacks.append(ExitStack())
        stacks[-1].enter_context(meeting())

    def end(*_: Any) -> None:
        if stacks:
            stacks.pop().close()

    root.register_forward_pre_hook(begin, prepend=True)
    root.register_forward_hook(end, always_call=True)


def require_even_reading(model: Any, way: str) -> None:
    """Tried on the whole model, since processes would try it at different times; texts of several lengths at once."""
    cache_name(model)
    if not reads_left_padding(model):
        raise InputError(
            f"accelerate launch, {way}",
            got=f"{type(language_model_in(model)).__name__}, which reads its padding",
            expected="a model that reads prompts of several lengths together, as all processes must in step",
            fix="take accelerate_config.yaml (plain DDP)",
        )


# -- accelerate --------------------------------------------------------------------------------------------------------


def take_up_fsdp_on_cpu(accelerator: Any) -> None:
    """The one place where accelerate is told otherwise: it knows FSDP on accelerators alone, and on a CPU would start
    plain DDP without a word. Torch's own cutting works there (gloo), which is how this project tests it.
    """
    from accelerate import FullyShardedDataParallelPlugin
    from accelerate.utils import DistributedType

    if accelerator.distributed_type == DistributedType.MULTI_CPU:
        accelerator.state.distributed_type = DistributedType.FSDP
        accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin()


def require_known_plan(plugin: Any) -> None:
    """Raise InputError when the launch file asks for a way of cutting that is not taken here."""
    wrong = {
        "fsdp_version": (plugin.fsdp_version, 2, plugin.fsdp_version != 2),
        "fsdp_activation_checkpointing": (True, "false; --gradient_checkpointing", plugin.activation_checkpointing),
    }
    for name, (got, expected, is_wrong) in wrong.items():
        if is_wrong:
            raise InputError(
                f"{name} of the launch file",
                got=got,
                expected=f"{expected}",
                fix="take accelerate_fsdp2.yaml as it is",
            )
