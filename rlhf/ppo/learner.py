"""What a run trains of the original, and the original itself, kept to compare with."""

from __future__ import annotations

import dataclasses
from os import PathLike
from typing import Any, NamedTuple

from torch import nn

from rlhf.foundation.encoding import beginning_token
from rlhf.foundation.errors import InputError
from rlhf.foundation.four_bit import FourBit
from rlhf.foundation.frozen_trunk import SharedTrunk
from rlhf.foundation.model_digests import Inputs, model_inputs
from rlhf.language_model.endings import never_sampled
from rlhf.ppo import critic, policy, sharding
from rlhf.ppo.config import PPOConfig
from rlhf.ppo.distributed import Processes
from rlhf.ppo.precision import require_frozen_base, require_precision
from rlhf.ppo.sharding import WholeCopy
from rlhf.ppo.zero import require_options


class Learner(NamedTuple):
    """The policy, the original as a frozen callable, and what the optimiser sees: the policy, or it with a critic.

    `original` has the original's digests, `source` its name, `args` the options with the tokens that it never samples.
    """

    model: Any
    reference: Any
    whole: nn.Module
    tokenizer: Any
    args: PPOConfig
    source: str
    original: Inputs
    to_save: WholeCopy  # the policy
    shared: SharedTrunk | None  # below the last block, where that alone is trained


def load_learner(
    model: Any | str | PathLike[str], processing_class: Any, peft_config: Any, args: PPOConfig, processes: Processes
) -> Learner:
    """Load the original, freeze what stays as it is, add the adapter or critic if there is one; cut it where asked for.

    Raises InputError when the model cannot be used, nothing would be trained, or adapter or critic do not fit it.
    """
    cut_later, device = processes.sharded, processes.accelerator.device
    by_zero = processes.distributed_type == "DEEPSPEED"
    require_precision(args, device)
    another = peft_config is not None
    require_frozen_base(args, adapter=another)
    four_bit = FourBit.of(args.resolved())
    require_place_for(four_bit, adapter=another, cut=cut_later)
    model, tokenizer, source = policy.load_original(
        model, processing_class, dtype=args.dtype, another=another, four_bit=four_bit
    )
    args = dataclasses.replace(args, suppress_tokens=never_sampled(model, tokenizer, args.suppress_tokens))
    if by_zero:
        require_options(args)
    model.to("cpu" if cut_later and not by_zero else device)
    digests = model_inputs(model, tokenizer)
    trunk = critic.separate_trunk(model, tokenizer, args) if args.critic == "separate" else None
    if four_bit is not None:
        model = policy.prepare_four_bit(model)
    if peft_config is not None:
        model = policy.add_adapter(model, peft_config, args.seed)
    elif args.train_scope == "last_layer":
        policy.train_last_layer_only(model)
    policy.require_trainable(model, source)
    reference = policy.reference_of(model)
    splits = args.train_scope == "last_layer" and not another and not cut_later
    shared = SharedTrunk.of(model, reference) if splits else None
    whole = model if args.critic == "none" else critic.add_critic(model, trunk, [beginning_token(tokenizer)])
    to_save = sharding.WholeCopy(model, cut=cut_later, is_main=processes.is_main)
    if by_zero:  # by `Processes.prepared`, once there is an optimiser
        for read in [model, *([reference] if isinstance(reference, nn.Module) else [])]:
            sharding.require_even_reading(read, "DeepSpeed")
            sharding.meet_in_forward(read, processes.meeting)
    elif cut_later:
        sharding.cut(model, reference, whole, device, processes.accelerator.state.fsdp_plugin, processes.meeting)
    return Learner(model, reference, whole, tokenizer, args, source, digests, to_save, shared)


def require_place_for(four_bit: FourBit | None, *, adapter: bool, cut: bool) -> None:
    """Raise InputError where weights in four bits would be trained, or cut over processes."""
    if four_bit is not None and not (adapter and not cut):
        raise InputError(
            "--load_in_4bit",
            got="FSDP2 or DeepSpeed" if cut else "no adapter",
            expected="whole copies on each process (plain DDP)" if cut else "an adapter: four bits cannot be trained",
            fix="take accelerate_config.yaml, or leave it out" if cut else "give --use_peft, or in Python peft_config",
        )
