"""Pieces of scoring and update are cut by the memory of their logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from rlhf import PPOConfig
from rlhf.ppo import forward
from rlhf.ppo.chosen import ChosenTokens
from rlhf.ppo.forward import rows_per_chunk, tokens_per_tile

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


def test_tokens_in_a_tile() -> None:
    assert tokens_per_tile(50_257, config(logits_memory_mb=128), CPU) == 133
    assert tokens_per_tile(50_257, config(), CPU) == 64  # the head's weights are read for these at least


def language_model(**shape: Any) -> Any:
    config = GPT2Config(n_embd=32, n_head=2, n_positions=64, bos_token_id=0, eos_token_id=0, **shape)
    return GPT2LMHeadModel(config).eval()


def test_rows_in_the_update() -> None:
    model = language_model(vocab_size=500, n_layer=2)
    # 16 times 32 MiB over 20 floats for each hidden number of two layers at 40 places
    assert ChosenTokens(model, config(per_device_train_batch_size=4096)).rows_at_once(8, 32) == 2621
    assert ChosenTokens(model, config(per_device_train_batch_size=16)).rows_at_once(8, 32) == 16
    last = config(per_device_train_batch_size=8192, train_scope="last_layer")  # one layer is held for the backward pass
    assert ChosenTokens(model, last).rows_at_once(8, 32) == 5242


def test_rows_of_a_model_read_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "trunk_and_head", lambda model: None)
    many = config(per_device_train_batch_size=1024)
    assert ChosenTokens(language_model(vocab_size=50_257, n_layer=1), many).rows_at_once(8, 32) == 4
    assert ChosenTokens(language_model(vocab_size=150_000, n_layer=1), many).rows_at_once(8, 32) == 1
