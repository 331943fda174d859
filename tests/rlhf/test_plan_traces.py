"""`rlhf plan` against torch's own memory tracker over a training step of whole models, on fake tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from transformers import LlamaConfig, LlamaForCausalLM

import rlhf
from rlhf.planning.weightless import without_data
from rlhf.ppo.chosen import head_logprobs
from rlhf.ppo.config import PPOConfig

SHAPES: dict[str, dict[str, Any]] = {
    "Llama 1 B": {
        "vocab_size": 128256, "hidden_size": 2048, "num_hidden_layers": 16, "intermediate_size": 8192,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "tie_word_embeddings": True,
    },
    "Llama 8 B": {
        "vocab_size": 128256, "hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 14336,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": False,
    },
}  # fmt: skip
PROMPT, LENGTH, MINIBATCH = 32, 256, 32


def traced(config: LlamaConfig, rows: int) -> float:
    """The peak of two steps of pieces of `rows` completions with Adam, beside a frozen original, GiB."""
    options, places = PPOConfig(output_dir="run", logits_memory_mb=2048), PROMPT + LENGTH
    with without_data(FakeTensorMode(allow_non_fake_inputs=True)):
        policy = LlamaForCausalLM(config).eval()
        original = LlamaForCausalLM(config).eval().requires_grad_(False)
        optimizer, tracker = torch.optim.AdamW(policy.parameters(), foreach=False), MemTracker()
        tracker.track_external(policy, original, optimizer)
        with tracker:
            for _ in range(2):
                for _ in range(min(2, MINIBATCH // rows)):  # a second piece finds the gradients of the first
                    ids = torch.zeros(rows, places, dtype=torch.long)
                    order = torch.arange(places)[None].expand(rows, -1)
                    states = policy.model(input_ids=ids, position_ids=order, use_cache=False).last_hidden_state
                    kept = states[:, -LENGTH - 1 : -1].flatten(0, 1).clone()
                    del states
                    chosen = torch.zeros(rows * LENGTH, dtype=torch.long)
                    head_logprobs(kept, policy.lm_head, chosen, options).exp().sum().backward()
                    del kept
                    tracker.reset_mod_stats()
                optimizer.step()
                optimizer.zero_grad()
        [found] = tracker.get_tracker_snapshot("peak").values()
        return float(next(size for name, size in found.items() if str(name) == "Total")) / 2**30


@pytest.mark.long
@pytest.mark.parametrize("name", SHAPES)
def test_the_updates_peak_is_what_torch_counts(name: str, tmp_path: Path) -> None:
    config = LlamaConfig(**SHAPES[name], architectures=["LlamaForCausalLM"])
    config.save_pretrained(tmp_path)
    plan = rlhf.plan(
        model_name_or_path=str(tmp_path), gpu_memory_gib=1e4, prompt_tokens=PROMPT, max_completion_length=LENGTH,
        minibatch_size=MINIBATCH, iteration_batch_size=64,
    )  # fmt: skip
    found = traced(config, plan.pieces["the update"])
    print(f"{name}: planned {plan.peaks['update']:.2f} GiB, traced {found:.2f} GiB")
    assert plan.peaks["update"] == pytest.approx(found, rel=0.15)
