"""CPU-seconds of one PPO iteration by phase, on a model directory.

    python benchmarks/iteration.py --model_name_or_path DIR [--iterations 1] [options of `rlhf ppo`, such as
        --train_scope last_layer]

64 completions of 24 tokens after "Good morning", 4 optimiser steps of 16, one thread, float32; a line of JSON an
iteration. Two trees are compared by running this file with PYTHONPATH of each, in turn, on the same model: a machine
that others share has CPU-seconds that vary by a third, so only ratios within such a series say something.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rlhf import environment

environment.prepare()

import torch

from rlhf import PPOConfig, PPOTrainer
from rlhf.commands.command_line import parse

RECIPE: dict[str, Any] = {
    "iteration_batch_size": 64,
    "max_iteration_batch_size": 64,
    "minibatch_size": 16,
    "max_completion_length": 24,
    "learning_rate": 1e-5,
    "normalization_samples": 32,
    "num_eval_samples": 8,
    "ladder_step": 100.0,  # no rung but the first
    "kl_budget": 1e5,
    "quiet": True,
    "use_cpu": True,
}
PHASES = {
    "sampling": ("worker", "_sample"),
    "scoring": ("worker", "_measure"),
    "doctor": ("doctor", "look"),
    "update": ("", "_update"),
    "state": ("", "_save_state"),
}


def length(completions: Sequence[str], **_: Any) -> list[float]:
    """A reward that costs nothing."""
    return [float(len(completion)) for completion in completions]


def timed(inner: Callable[..., Any], spent: dict[str, float], phase: str) -> Callable[..., Any]:
    """`inner`, whose CPU-seconds are added to the phase's."""

    def wrapped(*args: Any, **named: Any) -> Any:
        started = time.process_time()
        try:
            return inner(*args, **named)
        finally:
            spent[phase] = spent.get(phase, 0.0) + time.process_time() - started

    return wrapped


def main() -> None:
    """Run the iterations and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_name_or_path", required=True)
    parser.add_argument("--iterations", type=int, default=1)
    ours, others = parser.parse_known_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        given = [f"--{name}={value}" for name, value in RECIPE.items() if not isinstance(value, bool)]
        flags = [f"--{name}" for name, value in RECIPE.items() if value is True]
        place = ["--output_dir", str(Path(folder) / "run"), "--max_iterations", str(ours.iterations)]
        config = parse(PPOConfig, [*given, *flags, *place, *others], prog="iteration.py", description="")
        rows = [{"prompt": "Good morning"}]
        trainer = PPOTrainer(ours.model_name_or_path, length, config, train_dataset=rows, eval_dataset=rows)
        spent: dict[str, float] = {}
        for phase, (part, method) in PHASES.items():
            owner = getattr(trainer, part) if part else trainer
            setattr(owner, method, timed(getattr(owner, method), spent, phase))
        trainer.begin()
        for _ in range(ours.iterations):
            spent.clear()
            started = time.process_time()
            trainer.step(trainer.rollout())
            total = time.process_time() - started
            print(json.dumps({"cpu_seconds": round(total, 2), **{k: round(v, 2) for k, v in spent.items()}}))
        trainer.close()


if __name__ == "__main__":
    main()
