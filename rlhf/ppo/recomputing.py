"""Gradient checkpointing: a block keeps its input alone, and its activations are made once more in the backward pass.

Chen et al. 2016, "Training deep nets with sublinear memory cost" (arXiv 1604.06174). How this differs from
transformers' `gradient_checkpointing_enable`: that acts in training mode alone, which would turn dropout on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from rlhf.foundation.causal_lm import language_model_in
from rlhf.foundation.errors import InputError
from rlhf.foundation.frozen_trunk import blocks_of
from rlhf.foundation.replaced_forward import replaced_forward
from rlhf.ppo.critic import ActorCritic


def blocks_to_recompute(learner: nn.Module) -> list[nn.Module]:
    """The blocks of the policy, and of a separate critic's trunk. Raises InputError where they cannot be told."""
    policy: Any = learner.policy if isinstance(learner, ActorCritic) else learner
    trunks = [trunk_of(policy)]
    if isinstance(learner, ActorCritic) and learner.trunk is not None:
        trunks.append(learner.trunk)
    return [block for trunk in trunks for block in required_blocks(trunk, "--gradient_checkpointing")]


def trunk_of(model: Any) -> Any:
    """The module that holds a causal LM's blocks."""
    inner = language_model_in(model)
    return getattr(inner, getattr(inner, "base_model_prefix", "") or " ", inner)


def required_blocks(trunk: Any, option: str) -> nn.ModuleList:
    """A trunk's blocks. Raises InputError, about `option`, where it has no list of them."""
    blocks = blocks_of(trunk)
    if blocks is None:
        raise InputError(
            option,
            got=f"{type(trunk).__name__}, which has no one list of blocks",
            expected="a decoder with one list of blocks, as transformers' have",
            fix="leave it out",
        )
    return blocks


@contextmanager
def recomputed(blocks: Sequence[nn.Module]) -> Iterator[None]:
    """While it lasts a forward pass keeps what enters each block and no more; the backward pass may come later."""
    with ExitStack() as stack:
        for block in blocks:
            again = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
            stack.enter_context(replaced_forward(block, again))
        yield
