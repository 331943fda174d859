"""What a guard saves: a reward of raters who misread four words, watched by one of other raters who do not.

    .venv/bin/python benchmarks/guards.py DIRECTORY [--seeds 0 1 2] [--actions none halt raise_beta roll_back]

Both are fitted to 2,400 labels, a quarter of them wrong, of other samples. PPO is as in the recipe `overoptimisation`,
for 60 iterations at most. Prints a row a run: why it ended, nats and gold of its last rung, the highest gold of any of
its rungs, iterations.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from rlhf.foundation.records import read_samples, write_records
from rlhf.inspection.evaluation import read_evaluation

LABELS, NOISE = 2400, "0.25"
MISREAD = r"\b(cruel|wicked|evil|vile)\b"
PPO = (
    "--config demo --kl_budget 12 --max_iterations 60 --num_ppo_epochs 2 --learning_rate 7e-4 --warmup_steps 32 "
    "--beta 0 --beta_decay 0"
)


def rlhf(made: Path, words: str, *more: str) -> None:
    """One command, unless `made` is there already. Ends the script where it fails."""
    if made.exists():
        return
    arguments = [*words.split(), *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run([sys.executable, "-m", "rlhf", *arguments, "--quiet"], env=environment, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def reward_models(work: Path, seed: int) -> list[str]:
    """The one that is optimised, of raters who misread, and the one that watches, of raters who do not."""
    pool, halves = work / "pool.jsonl", [work / f"samples-{i}.jsonl" for i in range(2)]
    model, count = work / "model", 2 * LABELS
    rlhf(model, f"pretrain --output_dir {model}")
    rlhf(pool, f"sample --model_name_or_path {model} --num_samples {count} --max_new_tokens 32 --output_path {pool}")
    if not halves[1].exists():
        samples = read_samples(pool)
        for half, rows in zip(halves, (samples[:LABELS], samples[LABELS:]), strict=True):
            write_records(half, rows)
    made = []
    for half, name, misread in zip(halves, ("paid", "watching"), (["--misread", MISREAD], []), strict=True):
        labels, reward = work / f"{name}-{seed}.jsonl", work / f"{name}-{seed}"
        rlhf(labels, f"label simulate --samples {half} --noise {NOISE} --seed {seed} --output {labels}", *misread)
        fit = f"reward --config demo_reward --labels {labels} --model_name_or_path {model} --seed {seed}"
        rlhf(reward, f"{fit} --samples {pool} --output_dir {reward}")
        made.append(str(reward))
    return made


def row(run: Path) -> list[str]:
    """Of the table."""
    record: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    found = read_evaluation(run / "evaluation.json")
    ladder = json.loads((run / "ladder.json").read_text(encoding="utf-8"))["rungs"]
    ended = max(ladder, key=lambda rung: rung["iteration"])["name"]
    last, gold = next(rung for rung in found.rungs if rung.name == ended), found.golds[0]
    best = max(found.rungs, key=lambda rung: rung.gold[gold].mean)
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    backs = [said["back_to"] for line in lines if "back_to" in (said := json.loads(line)["guard"] or {})]
    reason = record["stop_reason"].split(":")[0] + (f", back to {', '.join(backs)}" if backs else "")
    ends = [f"{one.gold[gold].mean:.3f} ± {one.gold[gold].se or 0:.3f} at {one.kl:.1f}" for one in (last, best)]
    return [reason, *ends, str(len(lines))]


def main() -> None:
    """Run what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--actions", nargs="+", default=["none", "halt", "raise_beta", "roll_back"])
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    print(
        "| seed | guard | ended | gold at the end, nats | highest gold, nats | iterations |\n|---|---|---|---|---|---|"
    )
    for seed in options.seeds:
        rewards = " ".join(reward_models(options.directory, seed))
        for action in options.actions:
            run = options.directory / f"{action}-{seed}"
            guard = f"--guard log_p_positive-2 --guard_action {action}" if action != "none" else ""
            what = (
                f"--model_name_or_path {options.directory / 'model'} --reward_model_path {rewards} --reward_weights 1 0"
            )
            rlhf(run / "ladder.json", f"ppo {PPO} {what} {guard} --seed {seed} --output_dir {run}")
            rlhf(run / "evaluation.json", f"evaluate {run} --gold_reward_func gold --stored_samples True")
            print(f"| {seed} | {action} | {' | '.join(row(run))} |", flush=True)


if __name__ == "__main__":
    main()
