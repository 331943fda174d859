"""The demo's figures over seeds, each from the parts of a real `rlhf demo` run.

    python benchmarks/demo.py [--seeds 0 1 2] [--output_dir runs/benchmark]

Each seed runs `rlhf demo` and `rlhf demo --reward full_stop` as processes of their own, timed from outside, then
measures what they left behind. Reward models by number of labels: benchmarks/reward_model.py.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rlhf import environment

environment.prepare()

import numpy as np

from labeling.by_rule import simulate_labels
from rewards.calibration import accuracy, expected_calibration_error, reliability_table, sigmoid
from rewards.gold import GoldRule
from rewards.token_model import TokenRewardModel
from rlhf.commands.command_line import parse
from rlhf.foundation.model_directory import load_causal_lm, load_tokenizer
from rlhf.foundation.options import option
from rlhf.foundation.records import SOFT_TARGETS, read_samples
from rlhf.inspection.best_of_n import best_of_n
from rlhf.inspection.straightness import straightness
from rlhf.language_model.grammar import OPENING, generate_corpus, is_header, is_well_formed
from rlhf.language_model.sampler import sample_texts

FRESH = 9000  # samples that no stage saw: at least 4,000 of them are not neutral


@dataclasses.dataclass
class BenchmarkConfig:
    """What to run."""

    seeds: list[int] = option([0, 1, 2], help="one demo each")
    output_dir: str = option("runs/benchmark", help="where the demos go; finished ones are measured again, not run")


def run_demo(directory: Path, seed: int, reward: str) -> float:
    """Run the demo as a process; wall-clock seconds, start of Python included (a finished one: those it noted)."""
    record = directory / "demo.json"
    finished = (directory / "report.html").exists()
    started = time.perf_counter()
    command = [sys.executable, "-m", "rlhf.cli", "demo", "--output_dir", str(directory), "--seed", str(seed), "--quiet"]
    subprocess.run([*command, "--reward", reward], check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - started
    content = json.loads(record.read_text())
    if not finished:
        record.write_text(json.dumps({**content, "wall_seconds": wall}))
        return wall
    return float(content["wall_seconds"])


def language_model(directory: Path, seed: int, corpus_lines: set[str]) -> dict[str, float]:
    """Readability and copying of complete lines: ended by a newline, so the cut last one never counts."""
    model, tokenizer = load_causal_lm(str(directory / "model")), load_tokenizer(str(directory / "model"))
    samples = sample_texts(model, tokenizer, [""] * 2000, max_new_tokens=32, seed=10_000 + seed, source="model")
    lines = [line for s in samples for line in s.completion.split("\n")[:-1] if not is_header(line)]
    return {
        "complete lines well-formed, share": sum(map(is_well_formed, lines)) / len(lines),
        "complete lines verbatim from the corpus, share": sum(line in corpus_lines for line in lines) / len(lines),
    }


def reward_model(directory: Path, seed: int) -> dict[str, float]:
    """Accuracy against the noise-free rule and calibration against noisy labels, on fresh samples."""
    model, tokenizer = load_causal_lm(str(directory / "model")), load_tokenizer(str(directory / "model"))
    fresh = sample_texts(model, tokenizer, [""] * FRESH, max_new_tokens=32, seed=20_000 + seed, source="model")
    reward = TokenRewardModel.from_pretrained(str(directory / "reward_model"))
    odds = reward.log_odds([""] * FRESH, [s.completion for s in fresh]).double().numpy()
    judge = GoldRule().label
    truth = np.array([SOFT_TARGETS[judge(s.completion)] for s in fresh])
    noisy = simulate_labels(fresh, judge, annotator="tester", noise=0.1, seed=seed)
    targets = np.array([SOFT_TARGETS[label.label] for label in noisy])
    right = accuracy(odds, truth)
    return {
        "reward model accuracy, share": right.share,
        "  fresh non-neutral samples, n": right.n,
        "reward model calibration error": expected_calibration_error(reliability_table(sigmoid(odds), targets)),
        "reward model, s": json.loads((directory / "demo.json").read_text())["seconds"]["reward model"],
    }


def finetuning(directory: Path, name: str) -> dict[str, float]:
    """How the run went to its budget."""
    lines = [json.loads(line) for line in (directory / "ppo" / "metrics.jsonl").read_text().splitlines()]
    updated = [x for x in lines if x["clip_ratio/outside_mean"] is not None]  # a step back has no update of its own
    clipped = [x["clip_ratio/outside_mean"] for x in updated]
    straight = straightness([x["optimizer_steps"] for x in lines], [x["sqrt_kl"] for x in lines])
    assert straight is not None
    low, high = straight.slope_ratio_interval or (float("nan"), float("nan"))
    return {
        f"{name}: iterations": len(lines) - 1,
        f"{name}: KL at the end, nats": lines[-1]["kl_per_completion"],
        f"{name}, s": json.loads((directory / "demo.json").read_text())["seconds"]["ppo"],
        f"{name}: median clip fraction": statistics.median(clipped),
        f"{name}: first update's max |ratio - 1|": max(x["ratio_first_update_max_dev"] for x in updated),
        f"{name}: R2 of sqrt(KL) against steps": straight.r_squared,
        f"{name}: slope of second half / first": straight.slope_ratio or float("nan"),
        f"{name}: slope ratio, 95 % interval, low": low,
        f"{name}: slope ratio, 95 % interval, high": high,
    }


def ladder(directory: Path) -> dict[str, float]:
    """Proxy and labelled gold at the first, the best and the last rung."""
    evaluation: dict[str, Any] = json.loads((directory / "ppo" / "evaluation.json").read_text())
    gold = next(iter(evaluation["onsets"]))
    rungs = evaluation["rungs"]
    best = max(rungs, key=lambda rung: rung["gold"][gold]["mean"])
    return {
        "proxy reward, original, nats": rungs[0]["proxy"]["mean"],
        "proxy reward, last rung, nats": rungs[-1]["proxy"]["mean"],
        "labelled gold, original": rungs[0]["gold"][gold]["mean"],
        "labelled gold, best rung": best["gold"][gold]["mean"],
        "  its KL, nats": best["kl"],
        "labelled gold, last rung": rungs[-1]["gold"][gold]["mean"],
    }


def full_stops(directory: Path, seed: int) -> dict[str, float]:
    """Full stops of the original, of the last rung, and of the best of 64 originals (3.2 nats), on fresh samples."""
    counts = {}
    rungs = json.loads((directory / "ppo" / "ladder.json").read_text())["rungs"]
    for name in ("kl-00.00", rungs[-1]["name"]):
        path = str(directory / "ppo" / "checkpoints" / name)
        model, tokenizer = load_causal_lm(path), load_tokenizer(path)
        fresh = sample_texts(model, tokenizer, [OPENING] * 4096, max_new_tokens=32, seed=30_000 + seed, source=name)
        counts[name] = np.array([float(s.completion.count(".")) for s in fresh])
    start, end = counts["kl-00.00"], counts[rungs[-1]["name"]]
    best = best_of_n(start, {}, 64)
    stored = read_samples(directory / "ppo" / rungs[-1]["samples"])
    return {
        "full stops, original": start.mean(),
        "full stops, last rung": end.mean(),
        "  times the original": end.mean() / start.mean(),
        "full stops, best of 64": best.proxy,
        "full stops, last rung's own evaluation samples": statistics.mean(s.completion.count(".") for s in stored),
    }


def main() -> None:
    """Print a row a figure: mean, standard deviation over seeds, each seed."""
    config = parse(BenchmarkConfig, sys.argv[1:], prog="benchmarks/demo.py", description="The demo's figures.")
    corpus_lines = {line for document in generate_corpus() for line in document.split("\n")}
    rows: list[dict[str, float]] = []
    for seed in config.seeds:
        sentiment = Path(config.output_dir) / f"sentiment-{seed}"
        stops = Path(config.output_dir) / f"full-stop-{seed}"
        rows.append(
            {"demo, whole process, s": run_demo(sentiment, seed, "sentiment")}
            | {f"  {k}, s": v for k, v in json.loads((sentiment / "demo.json").read_text())["seconds"].items()}
            | language_model(sentiment, seed, corpus_lines)
            | reward_model(sentiment, seed)
            | finetuning(sentiment, "sentiment PPO")
            | ladder(sentiment)
            | {"full-stop demo, whole process, s": run_demo(stops, seed, "full_stop")}
            | finetuning(stops, "full-stop PPO")
            | full_stops(stops, seed)
        )
        print(f"seed {seed} done", file=sys.stderr, flush=True)
    for name in rows[0]:
        values = [float(row[name]) for row in rows]
        spread = statistics.stdev(values) if len(values) > 1 else float("nan")
        print(f"{name:<52}{statistics.mean(values):>10.4f} ± {spread:<9.4f} ({' '.join(f'{v:.4g}' for v in values)})")


if __name__ == "__main__":
    main()
