"""The trainer on tiny checkpoints of other families, from a local directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from rlhf.cli import main
from rlhf.foundation.model_directory import save_model
from rlhf.ppo.ladder import read_rungs

COMMON: dict[str, Any] = {
    "vocab_size": 32, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "max_position_embeddings": 48, "bos_token_id": 0, "eos_token_id": 0, "initializer_range": 0.2,
}  # fmt: skip


def llama() -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(num_key_value_heads=1, **COMMON))


def qwen() -> PreTrainedModel:
    return Qwen2ForCausalLM(Qwen2Config(num_key_value_heads=1, tie_word_embeddings=True, **COMMON))


def neox() -> PreTrainedModel:
    return GPTNeoXForCausalLM(GPTNeoXConfig(attention_dropout=0.1, hidden_dropout=0.1, **COMMON))


@pytest.mark.parametrize("build", [llama, qwen, neox])
def test_full_stops_on_a_local_checkpoint(build: Any, tokenizer: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_model(build(), tokenizer, tmp_path / "model")
    words = [
        "ppo", "--config", "full_stop", "--model_name_or_path", tmp_path / "model", "--output_dir", tmp_path / "run",
        "--prompt", "good morning", "--iteration_batch_size", 64, "--minibatch_size", 16, "--learning_rate", 1e-3,
        "--normalization_samples", 256, "--num_eval_samples", 32, "--max_iterations", 3, "--max_completion_length", 16,
        "--quiet",
    ]  # fmt: skip
    assert main([str(word) for word in words]) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 4
    assert all(line["ratio_first_update_max_dev"] < 1e-4 for line in lines[:-1])
    assert lines[-1]["kl_per_completion"] > 0
    for rung in read_rungs(tmp_path / "run" / "ladder.json"):
        AutoModelForCausalLM.from_pretrained(tmp_path / "run" / rung.path)
