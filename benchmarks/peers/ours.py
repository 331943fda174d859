"""This toolkit on the work: `ours` without a critic, `ours_separate` and `ours_shared` with one."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from work import LEARNING_RATE, PROMPT, Meter, Work, characters, from_command_line

from rlhf import environment

environment.prepare()

import torch

from rlhf import PPOConfig, PPOTrainer

PHASES = {
    "sampling": ("worker", "_sample"),
    "scoring": ("worker", "_measure"),
    "doctor": ("doctor", "look"),
    "update": ("", "_update"),
    "state": ("", "_save_state"),
}
CRITIC = {"ours": "none", "ours_separate": "separate", "ours_shared": "shared"}


def timed(inner: Callable[..., Any], spent: dict[str, float], phase: str) -> Callable[..., Any]:
    """`inner`, whose CPU-seconds are added to the phase's."""

    def wrapped(*args: Any, **named: Any) -> Any:
        started = time.process_time()
        try:
            return inner(*args, **named)
        finally:
            spent[phase] = spent.get(phase, 0.0) + time.process_time() - started

    return wrapped


def options(work: Work, directory: str) -> dict[str, Any]:
    """One epoch of `steps` steps a rollout; no rung but the first."""
    return {
        "output_dir": directory,
        "iteration_batch_size": work.completions,
        "max_iteration_batch_size": work.completions,
        "minibatch_size": work.batch,
        "max_completion_length": work.tokens,
        "learning_rate": LEARNING_RATE,
        "train_scope": work.train_scope,
        "critic": CRITIC[work.contender],
        "max_iterations": work.iterations,
        "normalization_samples": 32,
        "num_eval_samples": 8,
        "ladder_step": 100.0,
        "kl_budget": 1e5,
        "quiet": True,
        "use_cpu": True,
    }


def main() -> None:
    """Run the iterations."""
    torch.set_num_threads(1)
    work = from_command_line()
    rows = [{"prompt": PROMPT}]
    with tempfile.TemporaryDirectory() as folder:
        config = PPOConfig(**options(work, str(Path(folder) / "run")))
        trainer = PPOTrainer(work.model, characters, config, train_dataset=rows, eval_dataset=rows)
        spent: dict[str, float] = {}
        for phase, (part, method) in PHASES.items():
            owner = getattr(trainer, part) if part else trainer
            setattr(owner, method, timed(getattr(owner, method), spent, phase))
        trainer.begin()
        meter = Meter()
        for _ in range(work.iterations):
            spent.clear()
            trainer.step(trainer.rollout())
            meter.lap(**spent)
        trainer.close()


if __name__ == "__main__":
    main()
