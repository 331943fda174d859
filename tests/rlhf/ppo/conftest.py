"""A character model of 30,000 parameters whose BOS, EOS and pad are one id, built in memory."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from tests.conftest import need_real

CHARACTERS = "abcdefghijklmnopqrstuvwxyz .,\n!"


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    vocabulary = {"<end>": 0, **{c: i for i, c in enumerate(CHARACTERS, start=1)}}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<end>"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<end>",
        eos_token="<end>",
        pad_token="<end>",
        clean_up_tokenization_spaces=False,
    )


@pytest.fixture(scope="session")
def four_tokens() -> Any:
    """A tokenizer for models of four ids, 0 to 3, whose completions can be enumerated."""
    core = Tokenizer(models.WordLevel({"<end>": 0, "a": 1, "b": 2, ".": 3}, unk_token="<end>"))
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<end>", eos_token="<end>", pad_token="<end>")


def _build(*, dropout: float = 0.0, dtype: torch.dtype = torch.float32) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(CHARACTERS) + 1,
        n_positions=48,
        n_embd=32,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
        resid_pdrop=dropout,
        attn_pdrop=dropout,
        embd_pdrop=dropout,
        initializer_range=0.2,
    )
    return GPT2LMHeadModel(config).to(dtype).eval()


@pytest.fixture(scope="session")
def build_model() -> Callable[..., GPT2LMHeadModel]:
    """Builds the same weights at every call; `dropout` and `dtype` can be chosen."""
    return _build


@pytest.fixture
def model() -> GPT2LMHeadModel:
    return _build()


@pytest.fixture
def model_directory(model: GPT2LMHeadModel, tokenizer: Any, tmp_path: Path) -> Path:
    from rlhf.foundation.model_directory import save_model

    save_model(model, tokenizer, tmp_path / "model")
    return tmp_path / "model"


ROOT = Path(__file__).parents[3]
SMALL_RUN = shlex.split(
    "--iteration_batch_size 64 --max_iteration_batch_size 64 --minibatch_size 32 --max_completion_length 12 "
    "--per_device_generation_batch_size 32 --learning_rate 3e-4 --num_eval_samples 64 --normalization_samples 64 "
    "--kl_budget 3 --max_iterations 3 --clip_ratio_low 0.9 --clip_ratio_high 0.95 --quiet"
)
# Starts rlhf.ppo, or a script, as its rank is told to: in a directory of its own, with other source, further words.
BY_RANK = """
import json, os, runpy, sys
own = json.loads(os.environ["BY_RANK"]).get(os.environ["RANK"], {})
os.chdir(own.get("cwd", "."))
sys.path[0] = own.get("source", os.environ["ROOT"])
for word in own.get("words", []):  # in the place of the common one: an option is given once
    if word in sys.argv:
        at = sys.argv.index(word)
        del sys.argv[at : at + 2]
sys.argv += own.get("words", [])
runpy.run_path(own["script"]) if "script" in own else runpy.run_module("rlhf.ppo", run_name="__main__", alter_sys=True)
"""


def without(words: Sequence[str], others: Sequence[str]) -> list[str]:
    """The words without the options (each with one value) that `others` gives too."""
    twice = [i for i, word in enumerate(words) if word.startswith("--") and word in others]
    return [word for i, word in enumerate(words) if i not in twice and i - 1 not in twice]


@dataclass(frozen=True)
class Launched:
    """What two processes said; `ended` is when all of them were gone (time.time), `lines` ours after the greeting."""

    status: int
    stderr: str
    ended: float

    @property
    def lines(self) -> list[str]:
        said = [line for line in self.stderr.splitlines() if line.startswith("rlhf: ")]
        return [line for line in said if "processes, distributed type" not in line]


@pytest.fixture
def launch_two(tmp_path: Path) -> Callable[..., Launched]:
    """Runs `rlhf ppo` as two processes in `tmp_path`; `by_rank` has what a rank ("0", "1") is started with."""
    (tmp_path / "by_rank.py").write_text(BY_RANK)

    def run(*words: str, by_rank: Mapping[str, Mapping[str, Any]] | None = None) -> Launched:
        told = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "ROOT": str(ROOT), "PYTHONPATH": str(ROOT)}
        environment = {**os.environ, **told, "BY_RANK": json.dumps(by_rank or {})}
        start = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2", "--main_process_port", "0"]
        start += ["--config_file", str(ROOT / "accelerate_config.yaml"), str(tmp_path / "by_rank.py")]
        done = subprocess.run(
            [*start, *without(SMALL_RUN, words), *words],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        return Launched(done.returncode, done.stderr, time.time())

    return run


@pytest.fixture
def bitsandbytes() -> None:
    """Skips a test, or under RLHF_REQUIRE_REAL=1 fails it, where the library is missing."""
    need_real(importlib.util.find_spec("bitsandbytes") is not None, "bitsandbytes (the extra `4bit`)")
