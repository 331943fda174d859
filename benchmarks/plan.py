"""`rlhf plan` against what a run takes: predicted and measured peak of each phase, in eight settings.

    python benchmarks/plan.py MODEL_DIRECTORY [--only NAME ...] [--output_path FILE.json]

Measured: the peak of resident memory (VmHWM, set back at the start of each phase by /proc/self/clear_refs) in a process
of its own, less what was resident once all libraries were loaded and no model was. The process gives memory back as it
is freed (MALLOC_MMAP_THRESHOLD_, MALLOC_TRIM_THRESHOLD_). Linux alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rlhf import environment

environment.prepare()

SAME: dict[str, Any] = {
    "iteration_batch_size": 16, "max_iteration_batch_size": 16, "minibatch_size": 16, "max_completion_length": 32,
    "per_device_generation_batch_size": 16, "normalization_samples": 2, "num_eval_samples": 2, "max_iterations": 3,
    "prompt": "Good morning", "quiet": True, "use_cpu": True, "ladder_step": 1.0, "learning_rate": 1e-5,
}  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {
    "all weights": {},
    "last layer": {"train_scope": "last_layer"},
    "LoRA": {"use_peft": True},
    "LoRA on four bits": {"use_peft": True, "load_in_4bit": True},  # the extra `4bit`
    "gradient checkpointing": {"gradient_checkpointing": True},
    "separate critic": {"critic": "separate"},
    "bf16": {"bf16": True},
    "smaller pieces": {"logits_memory_mb": 8},
}
GIB = 2**30


def status(name: str) -> int:
    """A line of /proc/self/status, bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {name}; this needs Linux")


def noting(peaks: dict[str, int], phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, which notes the peak of resident memory while it ran."""

    def noted(*args: Any, **options: Any) -> Any:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        try:
            return function(*args, **options)
        finally:
            peaks[phase] = max(peaks.get(phase, 0), status("VmHWM"))

    return noted


@contextlib.contextmanager
def watched(peaks: dict[str, int]) -> Iterator[None]:
    """While it lasts the phases of a run note their peaks."""
    from rlhf.ppo import checkpoints, rollout, state_keeper, trainer

    places = [
        (rollout.RolloutWorker, "_sample", "sampling"),
        (rollout.RolloutWorker, "_measure", "scoring"),
        (trainer, "update", "update"),
        (checkpoints.Checkpoints, "save", "saving"),
        (state_keeper.StateKeeper, "save", "saving"),
    ]
    before = [getattr(owner, name) for owner, name, _ in places]
    for (owner, name, phase), function in zip(places, before, strict=True):
        setattr(owner, name, noting(peaks, phase, function))
    yield
    for (owner, name, _), function in zip(places, before, strict=True):
        setattr(owner, name, function)


def measure(model: str, options: dict[str, Any]) -> dict[str, float]:
    """Run three iterations in this process, two of which update; the peaks of its phases above the libraries, bytes."""
    import peft
    import torch
    import transformers

    import rlhf
    from rewards.rules import full_stop
    from rlhf.foundation.model_directory import load_tokenizer
    from rlhf.ppo import trainer  # noqa: F401 (loads what a run loads)

    del peft, transformers
    load_tokenizer(model)
    torch.zeros(8, 8).matmul(torch.zeros(8, 8))
    base, peaks = status("VmRSS"), {}
    with tempfile.TemporaryDirectory() as folder, watched(peaks):
        rlhf.finetune(model_name_or_path=model, reward_func=[full_stop], output_dir=f"{folder}/run", **options)
    return {phase: peak - base for phase, peak in peaks.items()}


def compare(model: str, name: str) -> dict[str, Any]:
    """Predicted and measured GiB of each phase of one setting."""
    from rlhf.planning.config import PlanConfig
    from rlhf.planning.estimate import estimate

    options = SAME | SETTINGS[name]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    words = [sys.executable, __file__, model, "--measure", json.dumps(options)]
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    measured = json.loads(done.stdout.splitlines()[-1])
    predicted = estimate(PlanConfig(model_name_or_path=model, prompt_tokens=2, **options), on_cpu=True)
    phases = {
        phase: {
            "predicted_gib": round(predicted.peaks[phase] / GIB, 3),
            "measured_gib": round(measured[phase] / GIB, 3),
        }
        for phase in predicted.peaks
    }
    peak, found = predicted.peak / GIB, max(measured.values()) / GIB
    return {"setting": name, "phases": phases, "predicted_gib": round(peak, 3), "measured_gib": round(found, 3),
            "error": round(peak / found - 1, 4)}  # fmt: skip


def main() -> None:
    """Compare, print a line a setting, write all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--only", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--output_path", default="")
    parser.add_argument("--measure", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.model, json.loads(options.measure))))
        return
    found = []
    for name in options.only:
        found.append(compare(options.model, name))
        print(json.dumps(found[-1]), flush=True)
    if options.output_path:
        Path(options.output_path).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
