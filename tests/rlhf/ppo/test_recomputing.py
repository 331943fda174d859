"""Gradient checkpointing: the same gradients from less that is kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from rlhf.foundation.errors import InputError
from rlhf.ppo import forward
from rlhf.ppo.recomputing import blocks_to_recompute

from .test_fast_paths import batch, forwarded, learner_of, options

TRAINED = ("all", "last layer", "lora", "shared critic", "separate critic")


def kept_numbers(learner: Any, **changes: Any) -> tuple[dict[str, torch.Tensor], int]:
    """Gradients, and how many numbers the forward pass keeps for them."""
    kept = 0

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        _, gradients = forwarded(learner, options(**changes), batch(padded=True))
    return gradients, kept


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("trained", TRAINED)
@pytest.mark.parametrize("whole", [False, True], ids=["trunk and head", "whole"])
def test_gradients_are_the_same(kind: str, trained: str, whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if whole:
        monkeypatch.setattr(forward, "trunk_and_head", lambda model: None)
    learner, _ = learner_of(kind, trained)
    expected, all_kept = kept_numbers(learner)
    found, kept = kept_numbers(learner, gradient_checkpointing=True)
    assert found.keys() == expected.keys()
    assert all(float((found[name] - gradient).abs().max()) <= 1e-12 for name, gradient in expected.items())
    assert kept < 0.8 * all_kept
    assert not any("forward" in module.__dict__ for module in learner.modules())  # all put back


def test_blocks_of_policy_and_critic() -> None:
    learner, _ = learner_of("llama", "separate critic")
    assert len(blocks_to_recompute(learner)) == 2 * len(blocks_to_recompute(learner.policy))


def test_a_model_without_blocks_is_refused() -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(InputError, match="--gradient_checkpointing: got Linear, which has no one list of blocks"):
        blocks_to_recompute(model)


def test_a_forward_that_stood_on_a_block_comes_back() -> None:
    """As hooks of accelerate set it on the instance."""
    learner, _ = learner_of("llama", "all")
    first, *others = blocks_to_recompute(learner)
    own = first.forward
    first.forward = own  # on the instance
    forwarded(learner, options(gradient_checkpointing=True), batch(padded=True))
    assert first.__dict__["forward"] is own
    assert all("forward" not in block.__dict__ for block in others)
