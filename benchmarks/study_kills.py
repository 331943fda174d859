"""The packaged study whole, and again killed at random moments and gone on with: the same tables in the end?

    python benchmarks/study_kills.py --directory DIR [--config overoptimisation] [--kills 10] [--jobs 2] [--seed 0]

Told are the seconds of the study that nobody killed, when the other one was killed (SIGKILL of the command alone, as a
machine that is short of memory does it, and of all its processes by turns), and whether cells.csv and rungs.csv are
equal byte for byte. What a command could not do (a cell that a worker of the dead one was still at) it says; the same
command is given until nothing is left.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
TABLES = ("cells.csv", "rungs.csv")
MOST_TRIES = 10  # of a command that nobody kills


def start(config: str, output: Path, jobs: int) -> subprocess.Popen[bytes]:
    """The study, in a process group of its own."""
    words = [
        sys.executable,
        "-m",
        "rlhf",
        "study",
        "--config",
        config,
        "--output_dir",
        str(output),
        "--jobs",
        str(jobs),
    ]
    log = output.with_suffix(".log").open("ab")
    return subprocess.Popen(words, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)


def finish(config: str, output: Path, jobs: int) -> int:
    """Give the command until it says that all is done; how often it was given."""
    for tries in range(1, MOST_TRIES + 1):
        if start(config, output, jobs).wait() == 0:
            return tries
    sys.exit(f"not done after {MOST_TRIES} tries: see {output.with_suffix('.log')}")


def killed(config: str, output: Path, jobs: int, kills: int, seconds: float, seed: int) -> None:
    """Kill it at moments spread over what a whole study takes, then let it be."""
    draw = random.Random(seed)
    for number in range(kills):
        running = start(config, output, jobs)
        wait = draw.uniform(0.2, 1.8) * seconds / (kills + 1)
        try:
            running.wait(wait)
            print(
                f"kill {number + 1}: it had ended after less than {wait:.0f} s (status {running.returncode})",
                flush=True,
            )
            continue
        except subprocess.TimeoutExpired:
            whole = number % 2 == 1
            os.killpg(running.pid, signal.SIGKILL) if whole else os.kill(running.pid, signal.SIGKILL)
            running.wait()
            print(f"kill {number + 1}: after {wait:.0f} s, {'all processes' if whole else 'the command'}", flush=True)
    print(f"given {finish(config, output, jobs)} times to its end", flush=True)


def main() -> None:
    """Both, and the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--config", default="overoptimisation")
    for name, default in (("kills", 10), ("jobs", 2), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    own = parser.parse_args()
    own.directory.mkdir(parents=True, exist_ok=True)
    whole, other = own.directory / "whole", own.directory / "killed"
    started = time.perf_counter()
    finish(own.config, whole, own.jobs)
    seconds = time.perf_counter() - started
    print(f"whole: {seconds:.0f} s with --jobs {own.jobs}", flush=True)
    killed(own.config, other, own.jobs, own.kills, seconds, own.seed)
    same = {name: (whole / name).read_bytes() == (other / name).read_bytes() for name in TABLES}
    print("equal byte for byte: " + ", ".join(f"{name} {'yes' if ok else 'NO'}" for name, ok in same.items()))
    sys.exit(not all(same.values()))


if __name__ == "__main__":
    main()
