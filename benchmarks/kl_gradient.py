"""Reward against KL with the sampled and with the exact gradient of the KL penalty, over coefficients and seeds.

    python benchmarks/kl_gradient.py --model_name_or_path DIR --output_dir DIR [--seeds 0 1 2] [--betas 0.05 ...]

Each run is the recipe `full_stop` with 16 tokens, 256 completions an iteration, as many iterations for all and a budget
out of reach; told are full stops and KL (nats) of the final rung on 512 samples: mean ± standard error over seeds. The
last column is what the exact gradient has more than the sampled one at its own KL, the latter between its neighbouring
coefficients linear in sqrt(KL). Runs that stand in the directory already are read, not made again.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rlhf import environment

environment.prepare()

from methods import told

from rlhf.commands.command_line import parse
from rlhf.ppo.finetune import PPOCommandConfig, finetune
from rlhf.runs.ladder import read_rungs

ESTIMATORS = ("sampled", "exact")


class End(NamedTuple):
    """Where one run ended: nats, full stops a completion."""

    kl: float
    reward: float


def end_of(model: str, directory: Path, options: list[str]) -> End:
    """The final rung of the run, which is made unless it stands."""
    record = directory / "run.json"
    if not record.exists() or json.loads(record.read_text(encoding="utf-8"))["status"] != "finished":
        words = ["--config", "full_stop", "--model_name_or_path", model, "--output_dir", str(directory), "--quiet"]
        words += ["--max_completion_length", "16", "--max_iteration_batch_size", "256", "--num_eval_samples", "512"]
        words += ["--kl_budget", "100", "--ladder_step", "9", *options, *(["--overwrite"] if record.exists() else [])]
        finetune.run(parse(PPOCommandConfig, words, prog="benchmarks/kl_gradient.py", description=""))
    last = read_rungs(directory / "ladder.json")[-1]
    return End(last.kl_per_completion, last.reward)


def above(exact: list[End], front: list[list[End]]) -> list[float]:
    """By how much each of the ends lies above the front of its own seed."""
    found = []
    for seed, end in enumerate(exact):
        line = sorted(ends[seed] for ends in front)
        found.append(
            end.reward - float(np.interp(math.sqrt(end.kl), [math.sqrt(e.kl) for e in line], [e.reward for e in line]))
        )
    return found


def main() -> None:
    """Print one table: a row a coefficient."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_name_or_path", required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--betas", type=float, nargs="+", default=[0.05, 0.1, 0.2, 0.4, 0.8])
    parser.add_argument("--iterations", type=int, default=20)
    own = parser.parse_args()
    ends: dict[str, list[list[End]]] = {name: [] for name in ESTIMATORS}
    for beta in own.betas:
        for name in ESTIMATORS:
            options = ["--beta", str(beta), "--kl_gradient", name, "--max_iterations", str(own.iterations)]
            place = own.output_dir / f"{name}-{beta}"
            ends[name].append(
                [end_of(own.model_name_or_path, place / str(s), [*options, "--seed", str(s)]) for s in own.seeds]
            )
            print(f"beta {beta}, {name}: {ends[name][-1]}", flush=True)
    print(
        "| beta | sampled: KL, full stops | exact: KL, full stops | exact above sampled at its KL |\n|---|---|---|---|"
    )
    for beta, sampled, exact in zip(own.betas, *ends.values(), strict=True):
        both = [
            f"{told([e.kl for e in one], '.2f')}, {told([e.reward for e in one], '.2f')}" for one in (sampled, exact)
        ]
        print(f"| {beta} | {both[0]} | {both[1]} | {told(above(exact, ends['sampled']), '.2f')} |")


if __name__ == "__main__":
    main()
