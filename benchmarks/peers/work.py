"""The work that every contender of benchmarks/speed.py does, and how its processor time is told.

An iteration: `completions` texts of `tokens` tokens are sampled at temperature 1, paid by their number of characters,
measured against the original model, and learned from in `steps` Adam steps, in float32 on one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

PROMPT = "Good morning"
LEARNING_RATE = 1e-5


@dataclass(frozen=True)
class Work:
    """What one contender is asked to do."""

    contender: str
    model: str
    completions: int = 1024
    tokens: int = 48
    steps: int = 4
    iterations: int = 2
    train_scope: str = "all"

    @property
    def batch(self) -> int:
        """Completions an optimiser step."""
        return self.completions // self.steps

    def words(self) -> list[str]:
        """The command line that `from_command_line` reads back."""
        return [word for name, value in vars(self).items() for word in (f"--{name}", str(value))]


def from_command_line() -> Work:
    """The work that the orchestrator asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--contender", required=True)
    parser.add_argument("--model", required=True)
    for name in ("completions", "tokens", "steps", "iterations"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Work, name))
    parser.add_argument("--train_scope", default=Work.train_scope)
    return Work(**vars(parser.parse_args()))


def characters(completions: Sequence[Any], **_: Any) -> list[float]:
    """Number of characters, a reward that costs nothing and never ties over a batch."""
    return [float(len(completion)) for completion in completions]


class Meter:
    """Prints a line of JSON an iteration: CPU and wall seconds since the last one, and the peak of memory so far.

    What was spent before `start` (imports, loading) counts nowhere.
    """

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Count from here."""
        self.cpu, self.wall = time.process_time(), time.perf_counter()

    def lap(self, **phases: float) -> None:
        """One iteration is done; `phases` are CPU-seconds of its parts, where the contender knows them."""
        cpu, wall = time.process_time() - self.cpu, time.perf_counter() - self.wall
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        line = {"cpu_seconds": cpu, "wall_seconds": wall, "peak_gib": peak, **phases}
        print(json.dumps({name: round(value, 3) for name, value in line.items()}), flush=True)
        self.start()


def train_only(model: Any, scope: str) -> None:
    """Freeze what is not trained: the toolkit's own choice, so that all train the same."""
    if scope == "last_layer":
        from rlhf.ppo.policy import train_last_layer_only

        train_last_layer_only(model)


def one_prompt(rows: int) -> Any:
    """A datasets.Dataset of as many rows of the one prompt."""
    from datasets import Dataset

    return Dataset.from_list([{"prompt": PROMPT}] * rows)


SHAPES = {"1M": {"n_embd": 128, "n_layer": 4, "n_head": 4}, "3M": {"n_embd": 192, "n_layer": 6, "n_head": 6}}
NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
VOCABULARY = 2048


def make_model(name: str, directory: Path) -> Path:
    """A GPT-2 of that shape with random weights and a byte-level tokenizer of 2,048 ids, as transformers saves them."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    end = VOCABULARY - 1
    ends = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    config = GPT2Config(vocab_size=VOCABULARY, n_positions=256, **SHAPES[name], **ends, **NO_DROPOUT)
    GPT2LMHeadModel(config).save_pretrained(directory)
    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    text = [f"{a}{b} {c}{a}{b}." for a in "bcdfghklmnprst" for b in "aeiou" for c in ("th", "wh", "sh", "")]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    plain.train_from_iterator(text, trainers.BpeTrainer(vocab_size=end, initial_alphabet=alphabet, show_progress=False))
    missing = end - plain.get_vocab_size()
    plain.add_tokens([f"<{i}>" for i in range(missing)])
    plain.add_special_tokens(["<end>"])
    PreTrainedTokenizerFast(
        tokenizer_object=plain, bos_token="<end>", eos_token="<end>", pad_token="<end>"
    ).save_pretrained(directory)
    return directory
