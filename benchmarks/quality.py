"""CPU-seconds and completions to 1, 4 and 10 nats, and the reward there: ours, TRL's GRPO and RLOO, TRL 1.12's PPO.

    python benchmarks/quality.py --directory DIR [--tasks full_stop sentiment] [--seeds 0 1 2] [--jobs 1]
        [--contenders ours grpo rloo trl_ppo] [--trl_ppo_python PYTHON] [--output benchmarks/quality.json]

The task `full_stop` pays full stops after the packaged recipe's prompt, `sentiment` the demo's reward model after none.
Model and reward model are the demo's, made once in the directory. `ours` is the recipe `full_stop` or `demo`; others
take the rate and the batch of the recipe `demo_align`, and none was tuned here. Every KL is ours, exact on fresh
samples, of peers every eight steps and 64 times at most; what that costs counts for nobody. Between measurements all
figures are linear in sqrt(KL). Told are means ± standard errors over seeds, of those that got there.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from methods import told
from speed import QUIET

from rlhf.foundation.files import write_json
from rlhf.foundation.recipes import read_config

NATS = (1.0, 4.0, 10.0)
CONTENDERS = ("ours", "grpo", "rloo", "trl_ppo")
FORMS = (("cpu_seconds", ".1f"), ("completions_seen", ",.0f"), ("reward", ".3f"))
RECIPE = {"full_stop": "full_stop", "sentiment": "demo"}


@dataclass(frozen=True)
class Place:
    """What is made once, and where."""

    root: Path

    @property
    def model(self) -> str:
        """The original."""
        return str(self.root / "demo" / "model")

    @property
    def reward(self) -> str:
        """The demo's reward model."""
        return str(self.root / "demo" / "reward_model")

    def make(self) -> None:
        """By the demo itself, whose finished stages are passed over."""
        subprocess.run(
            [sys.executable, "-m", "rlhf", "demo", "--output_dir", str(self.root / "demo")], check=True, cwd=HERE.parent
        )


def command(place: Place, task: str, contender: str, seed: int, python: str) -> tuple[list[str], Path]:
    """One run's process, and its run directory."""
    run = place.root / f"{task}-{contender}-{seed}"
    words = [python, str(HERE / "peers" / "to_quality.py"), "--model", place.model, "--output_dir", str(run)]
    words += ["--contender", contender, "--recipe", RECIPE[task], "--seed", str(seed), "--kl_budget", str(NATS[-1])]
    prompt = read_config(RECIPE[task]).get("prompt")
    words += ["--reward", place.reward] if task == "sentiment" else []
    return words + (["--prompt", prompt] if prompt else []), run


def done(place: Place, task: str, contender: str, seed: int, python: str) -> list[dict[str, float]]:
    """The run's measurements, with CPU-seconds; made unless it stands."""
    words, run = command(place, task, contender, seed, python)
    timed = run.with_suffix(".jsonl")
    if not timed.exists():
        packages = str(Path(np.__file__).parents[1])
        given = {**os.environ, **QUIET} | ({} if python == sys.executable else {"TOOLKIT_PACKAGES": packages})
        out = subprocess.run(words, capture_output=True, text=True, env=given, check=False)
        if out.returncode:
            sys.exit(f"{task}, {contender}, seed {seed}:\n{out.stderr[-3000:]}")
        timed.write_text("".join(f"{line}\n" for line in out.stdout.splitlines() if line.startswith('{"iteration"')))
        print(f"{task}, {contender}, seed {seed}: done", flush=True)
    seconds = {line["iteration"]: line["cpu_seconds"] for line in map(json.loads, timed.read_text().splitlines())}
    seconds.setdefault(0, 0.0)  # the original, which nothing was spent on
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line | {"cpu_seconds": seconds[line["iteration"]]} for line in lines if line["iteration"] in seconds]


def at(lines: list[dict[str, float]], nats: float) -> dict[str, float] | None:
    """CPU-seconds, completions and reward where the KL first passes `nats`; None where it never does (within 3 %)."""
    reached = next((i for i, line in enumerate(lines) if line["kl_per_completion"] >= 0.97 * nats), None)
    if reached is None or reached == 0:
        return None
    low, high = lines[reached - 1], lines[reached]
    roots = [math.sqrt(max(line["kl_per_completion"], 0.0)) for line in (low, high)]
    share = min(1.0, (math.sqrt(nats) - roots[0]) / (roots[1] - roots[0]))
    return {key: low[key] + share * (high[key] - low[key]) for key, _ in FORMS}


def main() -> None:
    """Make the runs, print a table a task, perhaps write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", default=list(RECIPE), choices=list(RECIPE))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=list(CONTENDERS))
    parser.add_argument("--trl_ppo_python", help="a Python that has TRL 1.12; without one its PPO is left out")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--output", type=Path)
    own = parser.parse_args()
    place = Place(own.directory.absolute())
    place.make()
    contenders = [one for one in own.contenders if own.trl_ppo_python or one != "trl_ppo"]
    if len(contenders) < len(own.contenders):
        print("trl_ppo is left out: it needs --trl_ppo_python", flush=True)
    results: dict[str, Any] = {}
    for task in own.tasks:
        pythons = {one: own.trl_ppo_python if one == "trl_ppo" else sys.executable for one in contenders}
        work = [(place, task, one, seed, pythons[one]) for seed in own.seeds for one in contenders]
        with ThreadPoolExecutor(own.jobs) as pool:
            runs = list(pool.map(lambda given: done(*given), work))
        print(f"\n{task}: CPU-seconds, completions, reward\n| contender | {' | '.join(f'{n:g} nats' for n in NATS)} |")
        print("|---|---|---|---|")
        for one in contenders:
            own_runs = [lines for given, lines in zip(work, runs, strict=True) if given[2] == one]
            found = {nats: [at(lines, nats) for lines in own_runs] for nats in NATS}
            cells = [
                "; ".join(told([f and f[key] for f in at_it], form) for key, form in FORMS) for at_it in found.values()
            ]
            print(f"| {one} | {' | '.join(cells)} |", flush=True)
            results.setdefault(task, {})[one] = {f"{nats:g}": f for nats, f in found.items()}
    if own.output:
        write_json(own.output, {"seeds": own.seeds, **results})


if __name__ == "__main__":
    main()
