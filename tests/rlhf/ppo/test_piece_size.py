"""Pieces of scoring and update are cut by the memory of their logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rlhf import PPOConfig
from rlhf.ppo.forward import rows_per_chunk
from rlhf.ppo.update import piece_size

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def config(**options: Any) -> PPOConfig:
    return PPOConfig(output_dir="-", **options)


@pytest.mark.parametrize(
    ("vocabulary", "options", "device", "rows"),
    [
        (50_257, {}, CPU, 1),  # a row's five copies take 31 MiB
        (50_257, {}, GPU, 66),
        (50_257, {"logits_memory_mb": 128}, GPU, 4),
        (50_257, {"logits_memory_mb": 128, "dtype": "float64"}, CPU, 2),
        (150_000, {"logits_memory_mb": 1}, CPU, 1),  # never none
    ],
)
def test_rows_in_scoring(vocabulary: int, options: dict[str, Any], device: torch.device, rows: int) -> None:
    assert rows_per_chunk(32, vocabulary, config(**options), device) == rows


def test_rows_in_the_update() -> None:
    mask = torch.ones(128, 40, dtype=torch.bool)
    mask[:, 32:] = False  # columns that every row leaves out take nothing
    assert piece_size(mask, 800, config(per_device_train_batch_size=16), CPU) == 16
    assert piece_size(mask, 50_257, config(per_device_train_batch_size=16), CPU) == 4
    assert piece_size(mask, 150_000, config(per_device_train_batch_size=16), CPU) == 1
