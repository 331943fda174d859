"""The case of docs/cases/full_stop.md again: full stops after "Good morning", on a real pretrained model, to 10 nats.

    .venv/bin/python benchmarks/full_stop_case.py MODEL_DIRECTORY [--work DIR] [--only NAME ...]

Prints of each run the wall clock and CPU time in seconds and the peak memory in GiB.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
QUIET = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

SAME = """--reward_func full_stop --prompt Good\\ morning --iteration_batch_size 64 --max_iteration_batch_size 128
    --minibatch_size 16 --max_completion_length 24 --normalization_samples 64 --num_eval_samples 32
    --ladder_step 0.5 --max_iterations 60"""
# name -> what is trained, and in which precision
RUNS = {
    "last_layer": "--train_scope last_layer --learning_rate 3e-4",
    "lora": "--use_peft --learning_rate 2e-4",
    "all": "--learning_rate 1e-5",
    "last_layer_bf16": "--train_scope last_layer --learning_rate 3e-4 --bf16",
    "lora_bf16": "--use_peft --learning_rate 2e-4 --bf16",
    "all_bf16": "--learning_rate 1e-5 --bf16",
}


def words(options: str) -> list[str]:
    """The words of some options, as a shell would take them."""
    return [word.replace("\0", " ") for word in options.replace("\\ ", "\0").split()]


def command(name: str, model: Path) -> list[str]:
    """`rlhf ppo` of one run, which leaves its directory under its name."""
    program = [sys.executable, "-m", "rlhf", "ppo", "--model_name_or_path", str(model), "--output_dir", name]
    return [*program, *words(SAME), *words(RUNS[name])]


def call(program: list[str], folder: Path) -> None:
    """One command, and what it took. Ends the script where the command fails."""
    began = time.perf_counter()
    process = subprocess.Popen(program, cwd=folder, env={**os.environ, **QUIET, "PYTHONPATH": str(ROOT)})
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    took = f"{time.perf_counter() - began:.0f} s, {used.ru_utime + used.ru_stime:.0f} CPU-s"
    print(f"[{took}, {used.ru_maxrss / 2**20:.2f} GiB] {' '.join(program[1:])}", flush=True)
    if process.returncode:
        sys.exit(process.returncode)


def main() -> None:
    """Do the runs, and the report of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--work", default="")
    parser.add_argument("--only", nargs="+", choices=list(RUNS), default=list(RUNS))
    options = parser.parse_args()
    work = Path(options.work or tempfile.mkdtemp(prefix="full-stop-case-"))
    work.mkdir(parents=True, exist_ok=True)
    print(f"in {work}")
    for name in options.only:
        call(command(name, Path(options.model).resolve()), work)
        call([sys.executable, "-m", "rlhf", "inspect", name], work)


if __name__ == "__main__":
    main()
