"""What a reward does to a policy: figures of whole runs, printed as tables.

    python benchmarks/reward_experiments.py --model_name_or_path runs/demo/model --output_dir runs/experiments \\
        --experiments twin conditional snippets ensembles distance [--seeds 0 1 2]

twin         the reward towards negative, from the same labels: is its policy more negative than the original?
conditional  prompts from the corpus, two completions each, comparisons, PPO: win rate against the original by rung
snippets     300 labels, a fifth of them on passages of the corpus: accuracy, and labelled gold at 10 nats
ensembles    25 % of the labels wrong, PPO to 20 nats under one model, and under mean, worst case and penalty of four
distance     two reward models from different labels: how far apart along the first one's run

Every stage is a command of `rlhf`; finished ones are passed over, so a stopped experiment goes on. Gold is the rule
that the simulated annotator follows.
"""

from __future__ import annotations

import dataclasses
import json
import random
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rlhf import environment

environment.prepare()

import numpy as np

from labeling.by_rule import simulate_labels
from rewards.calibration import accuracy
from rewards.gold import GoldRule
from rewards.loading import load_reward_model
from rlhf.cli import main as rlhf
from rlhf.commands.command_line import parse
from rlhf.foundation.options import option
from rlhf.foundation.records import SOFT_TARGETS, Label, Sample, read_labels, read_samples, write_records
from rlhf.inspection.evaluation import Evaluation, read_evaluation
from rlhf.inspection.rounds import at_kl
from rlhf.inspection.win_rate import win_rates
from rlhf.language_model.grammar import generate_corpus

LENGTH, GOLD = 32, "gold"


@dataclasses.dataclass
class ExperimentConfig:
    """What to run."""

    model_name_or_path: str = option(help="the original policy, trained on the embedded corpus")
    output_dir: str = option("runs/experiments", help="where everything goes")
    experiments: list[str] = option(["twin", "conditional", "snippets", "ensembles", "distance"], help="which ones")
    seeds: list[int] = option([0], help="one run each")
    num_labels: int = option(2400, help="labels of twin, ensembles and distance")


def do(product: Path, command: str) -> None:
    """Run an `rlhf` command unless its product stands; a command that fails ends the script."""
    if product.exists():
        return
    print(f"$ rlhf {command}", file=sys.stderr, flush=True)
    if code := rlhf([*shlex.split(command), "--quiet", "True"] if "simulate" not in command else shlex.split(command)):
        raise SystemExit(code)


def labelled(config: ExperimentConfig, root: Path, seed: int, count: int, noise: float) -> tuple[Path, Path]:
    """Labels and, apart from them, samples that fix offset and scale."""
    model = config.model_name_or_path
    samples, unlabelled, labels = root / "samples.jsonl", root / "unlabelled.jsonl", root / "labels.jsonl"
    root.mkdir(parents=True, exist_ok=True)
    drawn = f"sample --model_name_or_path {model} --max_new_tokens {LENGTH}"
    do(samples, f"{drawn} --num_samples {count} --seed {100 + seed} --output_path {samples}")
    do(unlabelled, f"{drawn} --num_samples 2048 --seed {200 + seed} --output_path {unlabelled}")
    do(labels, f"label simulate --samples {samples} --noise {noise} --seed {seed} --output {labels}")
    return labels, unlabelled


def finetuned(config: ExperimentConfig, root: Path, reward: Path, seed: int, extra: str = "") -> Evaluation:
    """PPO by the demo's recipe under `reward`, then 1,024 fresh samples a rung by labelled gold."""
    run = root / "ppo"
    status = json.loads((run / "run.json").read_text())["status"] if (run / "run.json").exists() else ""
    if status != "finished":
        resume = " --resume True" if run.exists() else ""
        do(
            run / "finished",
            f"ppo --config demo --model_name_or_path {config.model_name_or_path} --reward_model_path {reward} "
            f"--output_dir {run} --seed {seed} {extra}{resume}",
        )
    do(
        run / "evaluation.json",
        f"evaluate {run} --gold_reward_func {GOLD} --num_samples 1024 --best_of_n_samples 0 --heat_samples 0",
    )
    return read_evaluation(run / "evaluation.json")


def gold_at(evaluation: Evaluation, kl: float) -> tuple[float, float]:
    """Labelled gold and its standard error at `kl` nats (or the last rung, if that is below)."""
    scores = at_kl(evaluation, evaluation.golds[0], min(kl, evaluation.rungs[-1].kl))
    scores = scores[np.isfinite(scores)]
    return float(scores.mean()), float(scores.std(ddof=1) / len(scores) ** 0.5)


def twin(config: ExperimentConfig, root: Path, seed: int) -> None:
    """The negative twin: its own reward, never a flipped sign."""
    labels, unlabelled = labelled(config, root, seed, config.num_labels, 0.1)
    for target in ("positive", "negative"):
        reward = root / target / "reward_model"
        do(
            reward,
            f"reward --config demo_reward --model_name_or_path {config.model_name_or_path} --labels {labels} "
            f"--samples {unlabelled} --target {target} --output_dir {reward}",
        )
        evaluation = finetuned(config, root / target, reward, seed)
        base, base_se = gold_at(evaluation, 0.0)
        end, end_se = gold_at(evaluation, 10.0)
        error = 1.96 * (base_se**2 + end_se**2) ** 0.5
        print(
            f"twin seed {seed} {target}: gold {base:.3f} ± {base_se:.3f} -> {end:.3f} ± {end_se:.3f} at "
            f"{evaluation.rungs[-1].kl:.1f} nats, difference {end - base:+.3f} ± {error:.3f} (95 %)"
        )


def corpus_prompts(count: int, seed: int) -> list[str]:
    """Openings of held-out speeches: the speaker and the first three words."""
    rng = random.Random(seed)
    documents = generate_corpus(seed=1, n_documents=4 * count)
    found = []
    for document in documents:
        header, _, speech = document.partition("\n")
        words = speech.split(" ")
        if len(words) > 6 and "\n" not in " ".join(words[:3]):
            found.append(f"{header}\n{' '.join(words[:3])}")
    return rng.sample(sorted(set(found)), count)


def conditional(config: ExperimentConfig, root: Path, seed: int) -> None:
    """Prompts, pairs, comparisons, PPO: how often a rung's completion beats the original's."""
    root.mkdir(parents=True, exist_ok=True)
    prompts, samples, comparisons = root / "prompts.jsonl", root / "samples.jsonl", root / "comparisons.jsonl"
    if not prompts.exists():
        prompts.write_text("".join(json.dumps({"prompt": p}) + "\n" for p in corpus_prompts(1024, seed)))
    drawn = f"sample --model_name_or_path {config.model_name_or_path} --prompts {prompts} --max_new_tokens 24"
    do(samples, f"{drawn} --num_return_sequences 2 --seed {seed} --output_path {samples}")
    do(
        comparisons,
        f"label simulate --kind comparison --samples {samples} --noise 0.1 --seed {seed} --output {comparisons}",
    )
    reward = root / "reward_model"
    do(
        reward,
        f"reward --model_name_or_path {config.model_name_or_path} --comparisons {comparisons} --output_dir {reward}",
    )
    found = json.loads((reward / "reward_model.json").read_text())["held_out"]["accuracy"]
    print(f"conditional seed {seed}: accuracy on held-out pairs {found['share']:.3f} (n = {found['n']})")
    evaluation = finetuned(config, root, reward, seed, f"--prompts {prompts} --max_completion_length 24")
    for rate in win_rates(evaluation, evaluation.golds[0]):
        print(f"  {rate.text()}")


def snippets(config: ExperimentConfig, root: Path, seed: int) -> None:
    """300 labels, 60 of them on passages of the corpus, as the exercise advises for few labels."""
    labels, unlabelled = labelled(config, root, seed, 300, 0.1)
    mixed = root / "mixed.jsonl"
    if not mixed.exists():
        rng = random.Random(seed)
        passages = [
            Sample(f"corpus-{i:04d}", "", text, "corpus") for i, text in enumerate(rng.sample(generate_corpus(), 60))
        ]
        of_passages = simulate_labels(passages, GoldRule().label, annotator="simulated", noise=0.1, seed=seed)
        own: list[Label] = read_labels(labels)[:240]
        write_records(mixed, own + of_passages)
    tested = read_samples(unlabelled)
    judge = GoldRule().label
    truth = np.array([SOFT_TARGETS[judge(s.completion)] for s in tested])
    for name, path in (("300 samples", labels), ("240 samples, 60 passages", mixed)):
        place = root / name.replace(" ", "_").replace(",", "")
        reward = place / "reward_model"
        do(
            reward,
            f"reward --config demo_reward --model_name_or_path {config.model_name_or_path} --labels {path} "
            f"--samples {unlabelled} --output_dir {reward}",
        )
        odds = load_reward_model(reward)([""] * len(tested), [s.completion for s in tested])
        right = accuracy(np.array(odds) - np.log(0.5), truth)  # log P above log 1/2
        evaluation = finetuned(config, place, reward, seed)
        (base, base_se), (end, end_se) = gold_at(evaluation, 0.0), gold_at(evaluation, 10.0)
        print(
            f"snippets seed {seed} {name}: accuracy {right.share:.3f} ({right.low:.3f} to {right.high:.3f}, "
            f"n = {right.n}), gold {base:.3f} ± {base_se:.3f} -> {end:.3f} ± {end_se:.3f} at 10 nats"
        )


def ensembles(config: ExperimentConfig, root: Path, seed: int) -> None:
    """One model against three ways to join four, at 25 % wrong labels, at 10 nats and beyond."""
    labels, unlabelled = labelled(config, root, seed, config.num_labels, 0.25)
    for name in ("single", "mean", "worst", "penalty"):
        reward = root / name / "reward_model"
        joined = "" if name == "single" else f"--ensemble 4 --aggregate {name}"
        do(
            reward,
            f"reward --config demo_reward --model_name_or_path {config.model_name_or_path} --labels {labels} "
            f"--samples {unlabelled} --output_dir {reward} {joined}",
        )
        evaluation = finetuned(config, root / name, reward, seed, "--kl_budget 20 --max_iterations 120")
        told = ", ".join("{:g} nats: {:.3f} ± {:.3f}".format(kl, *gold_at(evaluation, kl)) for kl in (5, 10, 15, 20))
        print(f"ensembles seed {seed} {name}: labelled gold at {told}")


def distance(config: ExperimentConfig, root: Path, seed: int) -> None:
    """How far two rewards fitted to different labels are apart on the samples of the first one's run."""
    for part in (0, 1):
        place = root / f"labels-{part}"
        labels, unlabelled = labelled(config, place, 10 * seed + part, config.num_labels // 2, 0.1)
        do(
            place / "reward_model",
            f"reward --config demo_reward --model_name_or_path {config.model_name_or_path} --labels {labels} "
            f"--samples {unlabelled} --output_dir {place / 'reward_model'}",
        )
    finetuned(config, root / "labels-0", root / "labels-0" / "reward_model", seed)
    table = root / "distance.json"
    rewards = " ".join(str(root / f"labels-{part}" / "reward_model") for part in (0, 1))
    command = f"compare {rewards} --run_directory {root / 'labels-0' / 'ppo'} --output_path {table}"
    if not table.exists() and (code := rlhf(shlex.split(command))):
        raise SystemExit(code)
    rows = json.loads(table.read_text())["rows"]
    print(f"distance seed {seed}: " + ", ".join(f"{r['kl_per_completion']:.1f} nats {r['distance']:.3f}" for r in rows))


EXPERIMENTS: dict[str, Callable[[ExperimentConfig, Path, int], None]] = {
    function.__name__: function for function in (twin, conditional, snippets, ensembles, distance)
}


def run(config: ExperimentConfig, names: Sequence[str]) -> None:
    """Every experiment on every seed."""
    for name in names:
        for seed in config.seeds:
            EXPERIMENTS[name](config, Path(config.output_dir) / name / f"seed-{seed}", seed)
            sys.stdout.flush()


def main() -> None:
    """Run what was asked for."""
    config = parse(ExperimentConfig, sys.argv[1:], prog="reward_experiments.py", description=__doc__ or "")
    unknown = sorted(set(config.experiments) - set(EXPERIMENTS))
    if unknown:
        raise SystemExit(f"--experiments: got {unknown[0]}; expected some of {', '.join(EXPERIMENTS)}")
    run(config, config.experiments)


if __name__ == "__main__":
    main()
