"""The losses on a ragged, padded batch, by hand; and that the masks and weights matter."""

from __future__ import annotations

import math

import pytest
import torch

from rewards.batching import Batch
from rewards.token_training import (
    every_position_loss,
    last_position_loss,
    learning_rate_factor,
    shuffled_batches,
    total_loss,
)

LOG3 = math.log(3.0)  # σ(log 3) = 3/4
# Two texts of 3 and 1 tokens; the second row's places 1 and 2 are padding with absurd values.
DIFFERENCE = torch.tensor([[0.0, -LOG3, LOG3], [LOG3, 50.0, -50.0]])
MASK = torch.tensor([[True, True, True], [True, False, False]])
LAST = torch.tensor([2, 0])
TARGETS = torch.tensor([1.0, 0.5])
WEIGHTS = torch.tensor([1.0, 3.0])
# Cross-entropies: t = 1: d = 0: log 2, d = -log 3: log 4, d = log 3: log 4/3. t = 1/2, d = log 3: ½ log 4/3 + ½ log 4.
AT_LAST = [math.log(4 / 3), 0.5 * math.log(4 / 3) + 0.5 * math.log(4)]


def test_last_position_loss_by_hand() -> None:
    expected = (1 * AT_LAST[0] + 3 * AT_LAST[1]) / 4
    assert last_position_loss(DIFFERENCE, LAST, TARGETS, WEIGHTS).item() == pytest.approx(expected, rel=1e-6)
    wrong = last_position_loss(DIFFERENCE, torch.tensor([2, 2]), TARGETS, WEIGHTS).item()
    assert abs(wrong - expected) > 1  # reading at the pad


def test_every_position_loss_by_hand() -> None:
    # Four real tokens with weights 1, 1, 1, 3.
    expected = (math.log(2) + math.log(4) + AT_LAST[0] + 3 * AT_LAST[1]) / 6
    found = every_position_loss(DIFFERENCE, MASK, TARGETS, WEIGHTS).item()
    assert found == pytest.approx(expected, rel=1e-6)
    unmasked = every_position_loss(DIFFERENCE, torch.ones_like(MASK), TARGETS, WEIGHTS).item()
    assert abs(unmasked - expected) > 1


def test_dense_weight_adds() -> None:
    batch = Batch([0, 1], torch.zeros(2, 3, dtype=torch.long), MASK, LAST)
    last = last_position_loss(DIFFERENCE, LAST, TARGETS, WEIGHTS)
    dense = every_position_loss(DIFFERENCE, MASK, TARGETS, WEIGHTS)
    assert total_loss(DIFFERENCE, batch, TARGETS, WEIGHTS, 0.0).item() == last.item()
    assert total_loss(DIFFERENCE, batch, TARGETS, WEIGHTS, 0.5).item() == pytest.approx((last + 0.5 * dense).item())


def test_learning_rate_rises_then_falls_to_zero() -> None:
    # 10 steps, 2 of warm-up: 1/2, 1, then (10 - s)/8.
    factors = [learning_rate_factor(step, 10, 0.2) for step in range(10)]
    assert factors == pytest.approx([0.5, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])


def test_every_text_once_an_epoch_in_a_new_order() -> None:
    batches = shuffled_batches([3, 1, 2, 5, 4], 2, seed=0)
    first = [next(batches) for _ in range(3)]
    second = [next(batches) for _ in range(3)]
    for epoch in (first, second):
        assert sorted(row for batch in epoch for row in batch) == [0, 1, 2, 3, 4]
    assert first != second
    again = shuffled_batches([3, 1, 2, 5, 4], 2, seed=0)
    assert [next(again) for _ in range(3)] == first
