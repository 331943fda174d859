"""Where the CPU-seconds of one iteration of ours go: phase by phase, and in each by kind of operation.

    python benchmarks/profile_iteration.py --model 1M [--completions 256] [--tokens 48] [--train_scope all]

`--model` is a shape of peers/work.py or a model's directory. The second iteration is told, by torch's profiler on one
thread, which itself costs a few per cent. `python` is all that is no operation of torch: ours, transformers', torch's
own in Python, and the profiler.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "peers"))

from rlhf import environment

environment.prepare()

import torch
from ours import PHASES, options
from torch.profiler import ProfilerActivity, profile
from work import PROMPT, SHAPES, Work, characters, make_model

from rlhf import PPOConfig, PPOTrainer

KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::linear", "mkldnn"),
    "attention": ("scaled_dot_product", "_flash_attention"),
    "softmax and exp": ("softmax", "aten::exp", "logsumexp", "nll_loss"),
    "activation": ("gelu", "aten::tanh", "aten::pow", "aten::silu"),
    "norm": ("layer_norm", "rms_norm", "rsqrt"),
    "optimiser": ("adam", "foreach"),
    "copies": ("copy_", "aten::cat", "index", "gather", "scatter", "aten::fill_", "contiguous", "clone", "embed"),
    "random numbers": ("random", "uniform", "exponential", "multinomial", "argmax"),
}  # fmt: skip
Spent = defaultdict[str, dict[str, float]]


def kind_of(operation: str) -> str:
    """The first kind with a piece of the operation's name."""
    found = (kind for kind, pieces in KINDS.items() if any(piece in operation.lower() for piece in pieces))
    return next(found, "other operations")


def profiled(inner: Callable[..., Any], spent: dict[str, float]) -> Callable[..., Any]:
    """`inner`, whose CPU-seconds are added up by kind."""

    def wrapped(*args: Any, **named: Any) -> Any:
        started = time.process_time()
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            found = inner(*args, **named)
            whole = time.process_time() - started
        known = 0.0
        for row in seen.key_averages():
            seconds = row.self_cpu_time_total / 1e6  # of microseconds
            spent[kind_of(row.key)] += seconds
            known += seconds
        spent["python"] += max(0.0, whole - known)
        return found

    return wrapped


def iterate(work: Work) -> Spent:
    """CPU-seconds of the second iteration, by phase and kind."""
    spent: Spent = defaultdict(lambda: defaultdict(float))
    with tempfile.TemporaryDirectory() as folder:
        rows = [{"prompt": PROMPT}]
        config = PPOConfig(**options(work, str(Path(folder) / "run")))
        trainer = PPOTrainer(work.model, characters, config, train_dataset=rows, eval_dataset=rows)
        trainer.begin()
        trainer.step(trainer.rollout())
        for phase, (part, method) in PHASES.items():
            owner = getattr(trainer, part) if part else trainer
            setattr(owner, method, profiled(getattr(owner, method), spent[phase]))
        trainer.step(trainer.rollout())
        trainer.close()
    return spent


def table(spent: Spent) -> str:
    """Kinds down, phases across, and all."""
    phases = [phase for phase in spent if sum(spent[phase].values()) >= 0.005]
    kinds = sorted({kind for phase in phases for kind in spent[phase]}, key=lambda kind: -_all(spent, kind))
    lines = [f"| CPU-s | {' | '.join(phases)} | all |", "|---|" + "---|" * (len(phases) + 1)]
    for kind in kinds:
        each = " | ".join(f"{spent[phase][kind]:.2f}" for phase in phases)
        lines.append(f"| {kind} | {each} | {_all(spent, kind):.2f} |")
    sums = [sum(spent[phase].values()) for phase in phases]
    return "\n".join([*lines, f"| all | {' | '.join(f'{one:.2f}' for one in sums)} | {sum(sums):.2f} |"])


def _all(spent: Spent, kind: str) -> float:
    return sum(of_phase[kind] for of_phase in spent.values())


def main() -> None:
    """Profile and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--completions", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--train_scope", default="all")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        shape = given.model in SHAPES
        model = str(make_model(given.model, Path(folder) / given.model)) if shape else given.model
        work = Work("ours", model, given.completions, given.tokens, train_scope=given.train_scope)
        spent = iterate(work)
    print(table(spent))
    print(json.dumps({phase: {kind: round(s, 3) for kind, s in of.items()} for phase, of in spent.items()}))


if __name__ == "__main__":
    main()
