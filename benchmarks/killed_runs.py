"""Kills runs with SIGKILL at random moments, resumes them, and compares each with the run that nobody killed.

    python benchmarks/killed_runs.py [--runs_per_mode 4] [--seed S] [--directory D]

Modes: all weights, LoRA, a critic, adaptive KL, a batch that grows. Compared are every line of metrics.jsonl (without
seconds/*), ladder.json, the bytes of every checkpoint and of the evaluation samples, the last state's tensors, and
that nothing else is left behind. The seed decides the moments and is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

OPTIONS = shlex.split(
    "--reward_func full_stop --iteration_batch_size 128 --max_iteration_batch_size 128 --minibatch_size 32 "
    "--max_completion_length 12 --learning_rate 5e-4 --num_eval_samples 64 --normalization_samples 128 --kl_budget 4 "
    "--max_iterations 12 --clip_ratio_low 0 --ladder_step 0.1 --quiet"
)
MODES = {
    "all weights": "",
    "LoRA": "--use_peft --lora_r 4 --learning_rate 3e-3",
    "critic": "--critic shared --beta 0.01",
    "adaptive KL": "--beta 0.2 --kl_target 1 --kl_horizon 2000",
    "grown batch": "--max_iteration_batch_size 512 --clip_ratio_low 0.1",
}
TEXT = ["the lord is happy.", "the sad lady weeps!", "a merry song, a bitter tear. a king."]


def build_model(directory: Path) -> None:
    """A GPT-2 of a few thousand parameters."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from rlhf.foundation.model_directory import save_model
    from rlhf.language_model.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(TEXT, 400)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=32, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0,
        initializer_range=0.2,
    )  # fmt: skip
    save_model(GPT2LMHeadModel(config), tokenizer, directory)


def start(model: Path, output: Path, mode: str, *extra: str) -> subprocess.Popen[str]:
    """The run as a process of its own."""
    words = ["--model_name_or_path", str(model), "--output_dir", str(output), *OPTIONS, *shlex.split(MODES[mode])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "rlhf.ppo", *words, *extra]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> None:
    """Wait for the end, which must be a good one."""
    _, errors = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"a run ended with {process.returncode}: {errors}")


def wait_for_beginning(output: Path, process: subprocess.Popen[str]) -> float:
    """The moment run.json appears."""
    while not (output / "run.json").exists() and process.poll() is None:
        time.sleep(0.01)
    return time.monotonic()


def metrics(output: Path) -> list[dict[str, object]]:
    """Lines without seconds."""
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if not key.startswith("seconds/")} for row in rows]


def files(output: Path) -> dict[str, bytes]:
    """Everything a run leaves behind but what holds times: run.json, metrics.jsonl, the lock."""
    timed = {"run.json", "metrics.jsonl", ".lock"}
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in sorted(output.rglob("*"))
        if path.is_file() and path.name not in timed
    }


def differences(whole: Path, cut: Path) -> list[str]:
    """What is not the same in two run directories."""
    found = [] if metrics(whole) == metrics(cut) else ["metrics.jsonl"]
    a, b = files(whole), files(cut)
    found += sorted(a.keys() ^ b.keys())
    return found + [name for name in a.keys() & b.keys() if a[name] != b[name]]


def moment(output: Path) -> str:
    """What stood in the directory when the run was killed."""
    lines = len((output / "metrics.jsonl").read_text().splitlines()) if (output / "metrics.jsonl").exists() else 0
    half = [path.name for path in output.rglob("*.tmp")]
    return f"{lines:2d} lines" + (f", half written: {', '.join(half)}" if half else "")


def main() -> None:
    """Run, kill, resume, compare; exit status 1 when anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs_per_mode", type=int, default=4)
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    parser.add_argument("--directory", type=Path, default=None)
    arguments = parser.parse_args()
    root = arguments.directory or Path(tempfile.mkdtemp(prefix="killed-runs-"))
    moments = random.Random(arguments.seed)
    print(f"seed {arguments.seed}, directory {root}", flush=True)
    build_model(root / "model")
    failures = 0
    for mode in MODES:
        name = mode.replace(" ", "_")
        whole = root / f"{name}-whole"
        process = start(root / "model", whole, mode)
        began = wait_for_beginning(whole, process)
        finish(process)
        length = time.monotonic() - began
        print(f"{mode}: {len(metrics(whole))} lines in {length:.1f} s", flush=True)
        done = attempt = 0
        while done < arguments.runs_per_mode:
            attempt += 1
            cut = root / f"{name}-{attempt}"
            process = start(root / "model", cut, mode)
            wait_for_beginning(cut, process)
            delay = moments.uniform(0.0, length)
            time.sleep(delay)
            if process.poll() is not None:  # it was over before: not a killed run
                continue
            process.kill()
            process.communicate()
            where = moment(cut)
            finish(start(root / "model", cut, mode, "--resume"))
            different = differences(whole, cut)
            done += 1
            failures += bool(different)
            outcome = f"DIFFERENT: {', '.join(different)}" if different else "identical"
            print(f"  killed after {delay:5.2f} s ({where}), resumed: {outcome}", flush=True)
    print(f"{failures} of {arguments.runs_per_mode * len(MODES)} resumed runs differ (seed {arguments.seed})")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
