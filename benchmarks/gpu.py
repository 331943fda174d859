"""Speed and memory of an iteration, ours and TRL's GRPO on the same work. Also under `accelerate launch`.

    python benchmarks/gpu.py --model_name_or_path MODEL [--completions 256] [--tokens 128] [--iterations 4] [--bf16]
    accelerate launch --config_file accelerate_config.yaml --num_processes N benchmarks/gpu.py ... (not tried yet)

The same work: as many completions of one prompt, as long, one epoch in minibatches of one size, a reward that counts
full stops. Not the same: TRL's GRPO measures no KL here (beta 0), ours the exact one; the first iteration, which warms
up, is left out. Writes JSON with the card's name (--output_path). Runs on a CPU too. Not run on GPUs yet.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from rlhf import environment

environment.prepare()

PROMPT = "Good morning"


def full_stops(completions: list[str], **_: Any) -> list[float]:
    """A reward that costs nothing."""
    return [float(text.count(".")) for text in completions]


def reset_peak() -> None:
    """Peaks are counted anew."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_gib() -> float:
    """Of the card's allocator; on a CPU of this process so far (VmHWM)."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**20


def device_name() -> str:
    """The card, or the CPU."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def ours(options: argparse.Namespace, folder: str) -> dict[str, Any]:
    """Seconds of each phase, the median of all iterations but the first."""
    import rlhf

    reset_peak()
    run = rlhf.finetune(
        model_name_or_path=options.model_name_or_path, reward_func=[full_stops], prompt=PROMPT, output_dir=folder,
        iteration_batch_size=options.completions, max_iteration_batch_size=options.completions,
        minibatch_size=options.minibatch, per_device_generation_batch_size=options.completions,
        max_completion_length=options.tokens, max_iterations=options.iterations, kl_budget=1e6, ladder_step=1e3,
        num_eval_samples=2, normalization_samples=2, learning_rate=1e-6, bf16=options.bf16, quiet=True,
    )  # fmt: skip
    lines = (Path(run.directory) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["seconds/update"] is not None][1:]
    phases = {key: statistics.median(row[key] for row in rows) for key in rows[0] if key.startswith("seconds/")}
    return summary(options, sum(phases.values()), statistics.median(r["completions/mean_length"] for r in rows), phases)


def theirs(options: argparse.Namespace, folder: str) -> dict[str, Any]:
    """Seconds of a step of TRL's GRPO that samples, and of those that reuse its samples, added up."""
    import torch
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    class Clock(TrainerCallback):
        """When each optimiser step ended."""

        def __init__(self) -> None:
            self.ends: list[float] = []

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.ends.append(time.perf_counter())

    reset_peak()
    steps, processes = options.completions // options.minibatch, int(os.environ.get("WORLD_SIZE", "1"))
    config = GRPOConfig(
        output_dir=folder, per_device_train_batch_size=options.minibatch // processes,
        num_generations=options.minibatch,
        generation_batch_size=options.completions, max_completion_length=options.tokens, num_iterations=1, beta=0.0,
        max_steps=steps * options.iterations, learning_rate=1e-6, bf16=options.bf16, gradient_checkpointing=False,
        use_cpu=not torch.cuda.is_available(), report_to=[], save_strategy="no", logging_steps=1, disable_tqdm=True,
    )  # fmt: skip
    clock = Clock()
    data = Dataset.from_dict({"prompt": [PROMPT] * options.completions})
    began = time.perf_counter()
    trainer = GRPOTrainer(options.model_name_or_path, full_stops, config, data, callbacks=[clock])
    trainer.train()
    ends = clock.ends[steps - 1 :: steps]
    length = [row["completions/mean_length"] for row in trainer.state.log_history if "completions/mean_length" in row]
    seconds = statistics.median(b - a for a, b in itertools.pairwise(ends)) if len(ends) > 1 else ends[0] - began
    return summary(options, seconds, statistics.median(length), {})


def summary(options: argparse.Namespace, seconds: float, length: float, phases: dict[str, float]) -> dict[str, Any]:
    """Of one iteration."""
    rounded = {name: round(value, 4) for name, value in phases.items()}
    tokens = options.completions * length / seconds
    return {"seconds": round(seconds, 4), "tokens_per_second": round(tokens, 1), "peak_gib": round(peak_gib(), 3),
            "mean_length": round(length, 1), "phases": rounded}  # fmt: skip


def main() -> None:
    """Run both, print and write what they took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_name_or_path", required=True)
    for name, default in (("completions", 256), ("tokens", 128), ("minibatch", 64), ("iterations", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--only", choices=["ours", "trl"])
    parser.add_argument("--output_path", default="")
    options = parser.parse_args()
    if options.iterations < 2:
        parser.error("--iterations: at least 2, since the first one warms up")
    found: dict[str, Any] = {"device": device_name(), "options": vars(options)}
    found["options"] = {name: value for name, value in vars(options).items() if name != "output_path"}
    for name, one in (("ours", ours), ("trl", theirs)):
        if options.only in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                # One for all processes of a launcher: its number tells it.
                shared = f"{folder}/.." if "RANK" in os.environ else folder
                found[name] = one(options, str(Path(shared, f"rlhf-gpu-{os.getppid()}-{name}").resolve()))
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(found, indent=2))
        if options.output_path:
            Path(options.output_path).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
