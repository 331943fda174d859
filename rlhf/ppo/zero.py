"""DeepSpeed's ZeRO-2 and ZeRO-3: Adam's moments and gradients, and at stage 3 the weights, in parts on the processes.

How this differs from accelerate's and TRL's preparation:
1. `deepspeed.initialize` is called here with the stage of the launch file. Pieces of a minibatch are backward passes of
   their own; the engine joins their gradients, and its step clips them by the global norm and is Adam's.
2. At stage 3 the original is an engine of its own, and a policy is gathered once while it samples a chunk: gathering
   each block for each token is what generation would cost otherwise.
3. States and rungs are whole and those of one process (state.py), not DeepSpeed's checkpoints.
4. Weights in float32 alone, since DeepSpeed's masters and moments are whatever they are; --bf16 is autocast as ever.

Rajbhandari et al. 2020, "ZeRO" (arXiv 1910.02054); deepspeed.readthedocs.io/en/stable/zero3.html.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from rlhf.foundation.errors import InputError
from rlhf.ppo.config import PPOConfig

MOMENTS = ("exp_avg", "exp_avg_sq")
HELD = -1  # beside the numbers of the modules that are at work with a parameter


def is_parted(parameter: Any) -> bool:
    """Whether ZeRO-3 has put each process's part of it in its place."""
    return getattr(parameter, "ds_id", None) is not None


def in_engine(parameter: Any) -> bool:
    """Whether an engine has a float32 master of it, at either stage."""
    return is_parted(parameter) or getattr(parameter, "_hp_mapping", ...) is not ...


def whole(parameter: Tensor) -> Tensor:
    """All of a parted parameter, on every process (a collective)."""
    with gathered([parameter]):
        return parameter.detach().clone()


def own_part(parameter: Any) -> Tensor:
    """What of a parted parameter lies on this process."""
    part: Tensor = parameter.ds_tensor
    return part


@contextmanager
def gathered(parameters: list[Any]) -> Iterator[None]:
    """While it lasts the parted ones among them lie whole on every process (a collective); they are not written to."""
    parted = [p for p in parameters if is_parted(p)]
    if not parted:
        yield
        return
    from deepspeed.runtime.zero import GatheredParameters

    with GatheredParameters(parted):
        for parameter in parted:  # or else each module's own hook would part them again after its first forward
            parameter.ds_active_sub_modules.add(HELD)
        try:
            yield
        finally:
            for parameter in parted:
                parameter.ds_active_sub_modules.discard(HELD)


@torch.no_grad()
def put(parameter: Any, tensor: Tensor) -> None:
    """Set a parameter of an engine and its master to a whole tensor, the same on every process (a collective)."""
    from deepspeed.runtime.zero import GatheredParameters
    from deepspeed.utils import safe_set_full_fp32_param

    tensor = tensor.to(parameter.device).contiguous()
    with GatheredParameters([parameter], modifier_rank=0) if is_parted(parameter) else nullcontext():
        parameter.data.copy_(tensor)
    safe_set_full_fp32_param(parameter, tensor)


class ZeroOptimizer:
    """An engine in the optimiser's place: it clips, steps and forgets the gradients at once."""

    def __init__(self, engine: Any) -> None:
        """`engine` was given an AdamW."""
        self.engine, self._linked = engine, False

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """As AdamW's; the parameters in them are DeepSpeed's."""
        groups: list[dict[str, Any]] = self.engine.optimizer.param_groups
        return groups

    def step(self) -> float:
        """Clip by the global norm, take Adam's step and forget the gradients; returns the norm before."""
        self.engine.set_gradient_accumulation_boundary(True)
        self.engine.step()
        return float(self.engine.get_global_grad_norm())

    def moments(self, parameter: Tensor) -> dict[str, Tensor]:
        """Adam's moments and step count of a trained parameter, whole (a collective); {} before the first step."""
        from deepspeed.utils import safe_get_full_optimizer_state

        steps = [self.engine.optimizer.state[flat].get("step") for flat in self._masters()]
        if not parameter.requires_grad or steps[0] is None:
            return {}
        self._link()
        return {"step": steps[0], **{key: safe_get_full_optimizer_state(parameter, key) for key in MOMENTS}}

    def restore(self, parameter: Tensor, moments: Mapping[str, Tensor]) -> None:
        """Put `moments` back."""
        from deepspeed.utils import safe_set_full_optimizer_state

        for flat in self._masters():
            state = self.engine.optimizer.state[flat]
            for key in MOMENTS:
                state.setdefault(key, torch.zeros_like(flat))
            state["step"] = moments["step"].clone().to(flat.device)
        self._link()
        for key in MOMENTS:
            safe_set_full_optimizer_state(parameter, moments[key].to(parameter.device).contiguous(), key)

    def _masters(self) -> list[Tensor]:
        """This process's parts of the float32 masters, flat: what Adam really has a state of."""
        inner = self.engine.optimizer
        name = "fp32_partitioned_groups_flat" if self._stage == 3 else "single_partition_of_fp32_groups"
        masters: list[Tensor] = getattr(inner, name)
        return masters

    def _link(self) -> None:
        """At stage 2 a parameter finds its moments only after this.

        DeepSpeed (0.19.8) does it after the first step, for the first group alone.
        """
        if self._stage == 3 or self._linked:
            return
        from deepspeed.utils.mixed_precision_linkage import lazy_init_hp_params_optimizer_state

        inner = self.engine.optimizer
        for group, flat in zip(inner.bit16_groups, self._masters(), strict=True):
            lazy_init_hp_params_optimizer_state(group, flat, inner.state)
        self._linked = True

    @property
    def _stage(self) -> int:
        return int(self.engine.zero_optimization_stage())


def start(
    module: nn.Module, optimizer: torch.optim.Optimizer, original: Any, plugin: Any, max_grad_norm: float
) -> tuple[Any, ZeroOptimizer]:
    """An engine around `module` and its AdamW; at stage 3 the frozen `original` is parted too, in place."""
    import deepspeed

    settings = _settings(plugin, max_grad_norm)
    engine, *_ = deepspeed.initialize(model=module, optimizer=optimizer, config=settings)
    if plugin.zero_stage == 3 and isinstance(original, nn.Module):
        deepspeed.initialize(model=original, config=settings)
    return engine, ZeroOptimizer(engine)


def _settings(plugin: Any, max_grad_norm: float) -> dict[str, Any]:
    return {
        "train_micro_batch_size_per_gpu": 1,  # counted by nothing: the loss is divided by the minibatch's tokens here
        "gradient_accumulation_steps": 1,
        "gradient_clipping": max_grad_norm,
        # Above 0 small weights would never be parted, and those of a small model none.
        "zero_optimization": {"stage": plugin.zero_stage, "stage3_param_persistence_threshold": 0},
        "zero_allow_untested_optimizer": True,  # torch's own AdamW
        "steps_per_print": 10**9,
    }


def backward(engine: Any, loss: Tensor, *, last: bool) -> None:
    """Add a piece's gradients; `last` of its minibatch."""
    engine.set_gradient_accumulation_boundary(last)
    engine.backward(loss)


# -- accelerate --------------------------------------------------------------------------------------------------------


def take_up_on_cpu(accelerator: Any) -> None:
    """accelerate (1.15) passes over DeepSpeed where `cpu` is asked for, and without it counts one process on a CPU."""
    from accelerate import DeepSpeedPlugin
    from accelerate.utils import DistributedType

    if accelerator.distributed_type == DistributedType.MULTI_CPU:
        plugin = DeepSpeedPlugin()  # reads what the launcher put into the environment
        plugin.select(_from_accelerator_state=True)
        accelerator.state.distributed_type = DistributedType.DEEPSPEED
        accelerator.state.deepspeed_plugins = {"default": plugin}


def take_plan(plugin: Any) -> None:
    """Load models whole from here on. Raises InputError when the launch file asks for what is not taken here."""
    from transformers.integrations import unset_hf_deepspeed_config

    # accelerate has told transformers, which would load each model in parts (whatever zero3_init_flag says), before it
    # could be tried, compared and copied.
    unset_hf_deepspeed_config()  # type: ignore[no-untyped-call]
    asked = plugin.deepspeed_config["zero_optimization"]
    offload = [asked.get(f"offload_{what}", {}).get("device") for what in ("optimizer", "param")]
    wrong = {
        "zero_stage": (plugin.zero_stage, "2 or 3", plugin.zero_stage not in (2, 3)),
        "offload": (offload, "none", any(device not in (None, "none") for device in offload)),
    }
    for name, (got, expected, is_wrong) in wrong.items():
        if is_wrong:
            raise InputError(
                f"{name} of the launch file", got=got, expected=expected, fix="take accelerate_zero3.yaml as it is"
            )


def require_options(args: PPOConfig) -> None:
    """Raise InputError for weights that DeepSpeed would round to float32, refuse deep inside, or copy to float32, and
    for an update of the critic alone: the engine steps every group."""
    if args.dtype != "float32":
        raise InputError(
            "--dtype",
            got=f"{args.dtype} under DeepSpeed",
            expected="float32 there: its masters and moments are float32 whatever the weights are",
            fix="leave it out (--bf16 computes in bfloat16), or take accelerate_fsdp2.yaml",
        )
    if args.critic_warmup_iterations:
        raise InputError(
            "--critic_warmup_iterations",
            got=f"{args.critic_warmup_iterations} under DeepSpeed",
            expected="0 there: its engine steps the policy with the critic",
            fix="leave it out, or take accelerate_fsdp2.yaml",
        )
