"""Tests against a live vLLM engine on this machine's CPU: `make test-vllm`, in an environment of its own.

Without RLHF_VLLM=1 nothing here is collected. The model is tiny; its generation_config sets all that must not leak into
what is sampled.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

collect_ignore_glob = [] if os.environ.get("RLHF_VLLM") == "1" else ["test_*.py"]
ROOT = Path(__file__).parents[2]
CHARACTERS = "abcdefghijklmnopqrstuvwxyz .,\n!"
LEAK = {"do_sample": True, "temperature": 0.6, "top_p": 0.8, "top_k": 5, "repetition_penalty": 1.2}
# The engine's memory for keys and values, GiB; compiling the sampler takes longer than these tests.
ENGINE = {"VLLM_CPU_KVCACHE_SPACE": "1", "TORCH_COMPILE_DISABLE": "1", "CUDA_VISIBLE_DEVICES": ""}
os.environ.update(ENGINE)
SMALL = shlex.split(
    "--reward_func full_stop --iteration_batch_size 64 --max_iteration_batch_size 64 --minibatch_size 32 "
    "--max_completion_length 24 --learning_rate 3e-4 --num_eval_samples 16 --normalization_samples 32 --quiet"
)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    core = Tokenizer(models.WordLevel({"<end>": 0, **{c: i for i, c in enumerate(CHARACTERS, 1)}}, unk_token="<end>"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<end>", eos_token="<end>", pad_token="<end>",
        clean_up_tokenization_spaces=False,
    )  # fmt: skip


@pytest.fixture(scope="session")
def save_model(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    def save(*, tied: bool = True, seed: int = 0, width: int = 64) -> Path:
        torch.manual_seed(seed)
        shape = LlamaConfig(
            vocab_size=32, hidden_size=width, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=2, max_position_embeddings=64, bos_token_id=0, eos_token_id=0, pad_token_id=None,
            initializer_range=0.2, tie_word_embeddings=tied,
        )  # fmt: skip
        model = LlamaForCausalLM(shape).eval()
        model.generation_config = GenerationConfig(bos_token_id=0, eos_token_id=0, pad_token_id=0, **LEAK)
        place = tmp_path_factory.mktemp("model")
        model.save_pretrained(place)
        tokenizer.save_pretrained(place)
        return place

    return save


@pytest.fixture(scope="session")
def command() -> Callable[..., list[str]]:
    """The words of `rlhf ppo` with options, which stand in the place of the common ones."""

    def words_of(*given: Any) -> list[str]:
        words = list(map(str, given))
        twice = [i for i, word in enumerate(SMALL) if word.startswith("--") and word in words]
        common = [word for i, word in enumerate(SMALL) if i not in twice and i - 1 not in twice]
        return [sys.executable, "-m", "rlhf", "ppo", *common, *words]

    return words_of


@pytest.fixture(scope="session")
def ppo(command: Callable[..., list[str]]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs it to its end; `environment` is added."""

    def run(*words: Any, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        told = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
        return subprocess.run(command(*words), env=told, capture_output=True, text=True, timeout=300, check=False)

    return run


def last_line(said: str) -> str:
    """What the command said last on stderr."""
    return [line for line in said.splitlines() if line.startswith("rlhf: ")][-1]
