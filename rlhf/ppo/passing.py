"""What passes by while the policy samples, kept so that nothing need read it again.

Shapes: B completions, P prompt tokens (left-padded), T completion tokens, H hidden.

Where everything below the last block is frozen, what enters that block is kept of prompt and completion, (B, P + T, H):
the policy's measuring, the original's and every update read it. Else what the output head read to give each token,
(B, T, H), for the policy's measuring alone. A policy that has not moved yet is measured by a plain pass, so that its KL
is exactly 0. With a cache a float32 state is off a plain pass by rounding, some 1e-5 nats a log-prob; one in fewer bits
is off by too much, and none is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from rlhf.foundation.causal_lm import cache_name, width
from rlhf.foundation.frozen_trunk import SharedTrunk
from rlhf.foundation.trunk_and_head import trunk_and_head
from rlhf.ppo.config import PPOConfig

MOST_HELD = 2**30  # bytes of states on the CPU; beyond it they are made again


class PassingStates:
    """Takes the states of one policy from the sampler's own passes."""

    def __init__(self, model: Any, shared: SharedTrunk | None, config: PPOConfig, *, cut: bool = False) -> None:
        """`shared` is the trunk that `model` shares with its original, if its last block alone is trained; a model
        whose weights are `cut` over processes keeps nothing."""
        self.width, self.dtype = width(model), next(model.parameters()).dtype
        whole = self.dtype in (torch.float32, torch.float64) and not config.bf16 and not cut
        kept = whole and cache_name(model) is not None
        split = trunk_and_head(model) if kept else None
        self.shared, self.head = shared, split.head if split is not None else None

    def room(self, count: int, prompt_width: int, length: int, *, moved: bool) -> Tensor | None:
        """For `count` completions; None where states cannot be had, are not wanted, or would be too many."""
        if self.head is None or not (moved or self.shared):
            return None
        places = length + prompt_width * (self.shared is not None)
        size = count * places * self.width * self.dtype.itemsize
        return torch.zeros(count, places, self.width, dtype=self.dtype) if size <= MOST_HELD else None

    @contextmanager
    def into(self, room: Tensor | None, rows: range, prompt_width: int) -> Iterator[None]:
        """While it lasts, completions `rows` are sampled, and what is to be kept of them goes into `room`."""
        kept: list[Tensor] = []
        with nullcontext() if room is None else self._keeping(kept):
            yield
        if room is None:
            return
        states = torch.cat(kept, 1).cpu()
        start = prompt_width - kept[0].shape[1] if self.shared else 0  # a chunk's own prompts may be shorter
        room[rows.start : rows.stop, start : start + states.shape[1]] = states

    def _keeping(self, kept: list[Tensor]) -> AbstractContextManager[None]:
        assert self.head is not None
        return self.shared.policy.keeping(kept) if self.shared else keeping_what_it_reads(self.head, kept)


@contextmanager
def keeping_what_it_reads(head: nn.Module, kept: list[Tensor]) -> Iterator[None]:
    """While it lasts each pass adds the states of the last place that `head` read to `kept`, (B, 1, H)."""

    def keep(_: nn.Module, args: tuple[Any, ...]) -> None:
        kept.append(args[0][:, -1:].detach())

    handle = head.register_forward_pre_hook(keep)
    try:
        yield
    finally:
        handle.remove()
