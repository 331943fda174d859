"""Reward at 10 nats for full stops, by what is trained: all weights, the last layer alone, LoRA.

    python benchmarks/train_scopes.py --model_name_or_path DIR [--output_dir DIR] [--seeds 0 1 2]

Each run is the recipe `full_stop` with a learning rate for its scope. The reward at 10 nats is read between the two
rungs around 10 nats, linear in sqrt(KL); both figures of a rung come from its own fresh samples.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from rlhf import environment

environment.prepare()

from rlhf.commands.command_line import parse
from rlhf.ppo.finetune import PPOCommandConfig, finetune
from rlhf.runs.ladder import Rung, read_rungs

NATS = 10.0
SCOPES = {
    "all weights": ["--learning_rate", "3e-4"],
    "last layer": ["--train_scope", "last_layer", "--learning_rate", "6e-4"],
    "LoRA, rank 16": ["--use_peft", "--learning_rate", "2e-3"],
}


class Outcome(NamedTuple):
    """What one run reached; rewards are full stops a completion."""

    parameters: int
    before: float
    at_budget: float
    error: float
    iterations: int
    completions: int
    seconds: float


def reward_at(rungs: list[Rung], nats: float) -> tuple[float, float]:
    """Reward and standard error at `nats`, linear in sqrt(KL) between the rungs around it (or at the last one)."""
    rungs = sorted(rungs, key=lambda rung: rung.kl_per_completion)
    above = next((i for i, rung in enumerate(rungs) if rung.kl_per_completion >= nats), len(rungs) - 1)
    low, high = rungs[max(0, above - 1)], rungs[above]
    distance = math.sqrt(high.kl_per_completion) - math.sqrt(low.kl_per_completion)
    share = min(1.0, (math.sqrt(nats) - math.sqrt(low.kl_per_completion)) / distance) if distance else 1.0
    value = low.reward + share * (high.reward - low.reward)
    return value, math.hypot((1 - share) * low.reward_se, share * high.reward_se)


def measure(model: str, directory: Path, options: list[str], seed: int) -> Outcome:
    """One run to the budget."""
    words = ["--config", "full_stop", "--model_name_or_path", model, "--output_dir", str(directory), "--quiet"]
    words += ["--seed", str(seed), "--max_iterations", "300", "--num_eval_samples", "1024", "--ladder_step", "0.5"]
    words += ["--kl_budget", str(NATS), *options]
    started = time.perf_counter()
    done = finetune.run(parse(PPOCommandConfig, words, prog="benchmarks/train_scopes.py", description=""))
    seconds = time.perf_counter() - started
    rungs = read_rungs(done.directory / "ladder.json")
    reward, error = reward_at(rungs, NATS)
    record = json.loads(done.directory / "run.json".read_text(encoding="utf-8"))
    last = rungs[-1]
    return Outcome(
        record["trained_parameters"], rungs[0].reward, reward, error, last.iteration, last.completions_seen, seconds
    )


def main() -> None:
    """Print one table: a row a scope, mean over seeds."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--model_name_or_path", required=True)
    parser.add_argument("--output_dir", type=Path, default=None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    own = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = own.output_dir or Path(temporary)
        print("| trained | parameters | before | full stops at 10 nats | iterations | completions | seconds |")
        print("|---|---|---|---|---|---|---|", flush=True)
        for name, options in SCOPES.items():
            place = root / name.split(",")[0].replace(" ", "-")
            done = [measure(own.model_name_or_path, place / str(seed), options, seed) for seed in own.seeds]
            each = " ".join(f"{outcome.at_budget:.2f} ± {outcome.error:.2f}" for outcome in done)
            means = [statistics.mean(column) for column in zip(*done, strict=True)]
            print(
                f"| {name} | {done[0].parameters:,} | {means[1]:.2f} | {means[2]:.2f} ({each}) | {means[4]:.0f} "
                f"| {means[5]:,.0f} | {means[6]:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
