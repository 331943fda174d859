"""Everything below the last block, read once: where it is frozen, the policy and its original share it, and each update
finds what it gave.

Shapes: B texts, S tokens, H hidden.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rlhf.foundation.causal_lm import probe_ids
from rlhf.foundation.trunk_and_head import probe_masks, trunk_and_head


def blocks_of(trunk: nn.Module) -> nn.ModuleList | None:
    """The one list of layers among a trunk's children; None where there is none, or several."""
    lists = [child for child in trunk.children() if isinstance(child, nn.ModuleList) and len(child)]
    return lists[0] if len(lists) == 1 else None


class _Given(nn.Module):
    """Stands in a block's place and gives what the block below the last one gave."""

    def __init__(self, block: nn.Module, given: Any) -> None:
        super().__init__()
        self.__dict__["block"], self.__dict__["given"] = block, given  # not registered: it is not called

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["block"], name)

    def forward(self, *_: Any, **__: Any) -> Any:
        """What is given, whatever comes in."""
        return self.__dict__["given"]


class FrozenTrunk:
    """Of one transformers trunk: what enters its last block, kept from one pass and given to another."""

    def __init__(self, trunk: Any, blocks: nn.ModuleList, *, tuples: bool) -> None:
        """`tuples` is whether blocks return a tuple."""
        self.trunk, self.blocks, self.tuples = trunk, blocks, tuples

    @contextmanager
    def keeping(self, kept: list[Tensor]) -> Iterator[None]:
        """While it lasts each pass adds what entered the last block to `kept`, (B, S, H), without its history."""

        def keep(_: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
            kept.append((args[0] if args else named["hidden_states"]).detach())

        handle = self.blocks[-1].register_forward_pre_hook(keep, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def giving(self, kept: Tensor) -> Iterator[None]:
        """While it lasts the last block reads `kept` (B, S, H), and the blocks below it do nothing."""
        below = list(self.blocks)[:-1]
        given = (kept,) if self.tuples else kept
        try:
            for number, block in enumerate(below):
                self.blocks[number] = _Given(block, given)
            yield
        finally:
            for number, block in enumerate(below):
                self.blocks[number] = block


class SharedTrunk(NamedTuple):
    """That of a policy and of its original, which differ in the last block and beyond alone."""

    policy: FrozenTrunk
    original: FrozenTrunk

    @classmethod
    def of(cls, policy: Any, original: Any) -> SharedTrunk | None:
        """None where either cannot be told apart."""
        first, second = frozen_trunk(policy), frozen_trunk(original)
        return cls(first, second) if first is not None and second is not None else None


def frozen_trunk(model: Any) -> FrozenTrunk | None:
    """That of the transformers model inside `model`; None where it cannot be told apart, or has one block only.

    Tried on the model's probe: the trunk must give the same bits from what was kept as it gave itself.
    """
    split = trunk_and_head(model)
    blocks = blocks_of(split.trunk) if split is not None else None
    if split is None or blocks is None or len(blocks) < 2:
        return None
    return _tried(split.trunk, blocks, probe_ids(model))


@torch.no_grad()
def _tried(trunk: Any, blocks: nn.ModuleList, ids: Tensor) -> FrozenTrunk | None:
    positions, outputs = torch.arange(ids.shape[1], device=ids.device)[None], []
    handle = blocks[0].register_forward_hook(lambda _, __, output: outputs.append(output))
    found = FrozenTrunk(trunk, blocks, tuples=False)
    try:
        for mask in probe_masks(ids):
            inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions, "use_cache": False}
            kept: list[Tensor] = []
            with found.keeping(kept):
                whole = trunk(**inputs).last_hidden_state
            found.tuples = isinstance(outputs[0], tuple)
            other = {**inputs, "input_ids": ids.flip(1)}  # nothing but what was kept may decide
            with found.giving(kept[0]):
                again = trunk(**other).last_hidden_state
            if len(kept) != 1 or not torch.equal(whole, again):
                return None
    finally:
        handle.remove()
    return found
