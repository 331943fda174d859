"""Label efficiency of the token reward model beside a bag of words on the same labels: accuracy, calibration, seconds.

    python -m benchmarks.reward_model --model_name_or_path runs/demo/model

For each seed: fresh samples of the language model, a simulated annotator whose labels are wrong on a share `noise`,
and for each budget the recipe of `rlhf reward` (the whole of it: held-out test, temperature, fitting anew). Accuracy
is measured against the noise-free rule on fresh non-neutral samples that no fit saw; the calibration error (10 bins of
equal mass, neutral as 0.5) against labels made with the same noise. The bag of words is a logistic regression on
word counts (scikit-learn, C = 1, a neutral text as two halves).
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
import time
from collections.abc import Sequence

from rlhf import environment

environment.prepare()

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import t as student
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from labeling.by_rule import simulate_labels
from rewards.calibration import accuracy, expected_calibration_error, reliability_table, sigmoid
from rewards.gold import GoldRule
from rewards.targets import LabelledText, pool_labels
from rewards.token_recipe import Recipe
from rewards.token_training import FitSettings
from rlhf.commands.command_line import parse
from rlhf.foundation.model_directory import load_causal_lm, load_tokenizer
from rlhf.foundation.options import option
from rlhf.foundation.records import SOFT_TARGETS, Label, Sample
from rlhf.language_model.sampler import sample_texts

Array = NDArray[np.float64]


@dataclasses.dataclass
class BenchmarkConfig:
    """What to measure."""

    model_name_or_path: str = option(help="the language model whose samples are labelled")
    budgets: list[int] = option([300, 600, 1200, 2400], help="rows of labels")
    seeds: list[int] = option([0, 1, 2], help="one run each: samples, noise, split and fit")
    dense_weights: list[float] = option([0.0, 3.0], help="the auxiliary losses to compare")
    noise: float = option(0.1, help="share of labels replaced at random by one of the other two")
    test_samples: int = option(9000, help="fresh samples to test on, neutral ones included")
    max_new_tokens: int = option(32, help="tokens of a sample at most")


@dataclasses.dataclass(frozen=True)
class Row:
    """One fit."""

    method: str
    budget: int
    seed: int
    accuracy: float
    n_test: int
    calibration_error: float
    seconds: float


def bag_of_words(texts: Sequence[LabelledText], test: Sequence[str]) -> Array:
    """Log-odds of `test` (N,) by a logistic regression on the word counts of `texts`."""
    vectorizer = CountVectorizer(token_pattern=r"\w+|[^\w\s]")
    counts = vectorizer.fit_transform([text.prompt + text.completion for text in texts])
    twice = [*range(len(texts)), *range(len(texts))]
    targets = np.array([text.target for text in texts])
    model = LogisticRegression(C=1.0, max_iter=1000).fit(
        counts[twice], [1] * len(texts) + [0] * len(texts), sample_weight=np.concatenate([targets, 1 - targets]) + 1e-12
    )
    odds: Array = model.decision_function(vectorizer.transform(test))
    return odds


def measure(config: BenchmarkConfig, seed: int) -> list[Row]:
    """All budgets and methods of one seed."""
    base, tokenizer = load_causal_lm(config.model_name_or_path), load_tokenizer(config.model_name_or_path)
    n_labels = max(config.budgets)
    samples: list[Sample] = sample_texts(
        base,
        tokenizer,
        [""] * (n_labels + config.test_samples),
        max_new_tokens=config.max_new_tokens,
        seed=1000 + seed,
        source=config.model_name_or_path,
    )
    judge = GoldRule().label
    test = samples[n_labels:]
    completions = [sample.completion for sample in test]
    truth = np.array([SOFT_TARGETS[judge(text)] for text in completions])
    noisy = targets_of(simulate_labels(test, judge, annotator="tester", noise=config.noise, seed=seed))
    rows: list[Row] = []
    for budget in config.budgets:
        labels = simulate_labels(samples[:budget], judge, annotator="rater", noise=config.noise, seed=seed)
        texts = pool_labels(labels).texts
        begin = time.perf_counter()
        odds = bag_of_words(texts, completions)
        rows.append(row("bag of words", budget, seed, odds, truth, noisy, time.perf_counter() - begin))
        for weight in config.dense_weights:
            settings = FitSettings(num_train_epochs=0, dense_weight=weight)
            recipe = Recipe(base, tokenizer, target="positive", settings=settings, seed=seed)
            begin = time.perf_counter()
            reward = recipe.fit_and_test(texts).reward
            seconds = time.perf_counter() - begin
            odds = reward.log_odds([""] * len(completions), completions).double().numpy()
            name = f"dense weight {weight:g}" if weight else "last position only"
            rows.append(row(name, budget, seed, odds, truth, noisy, seconds))
            print(rows[-1], file=sys.stderr, flush=True)
    return rows


def targets_of(labels: Sequence[Label]) -> Array:
    """Soft targets (N,)."""
    return np.array([SOFT_TARGETS[label.label] for label in labels])


def row(method: str, budget: int, seed: int, odds: Array, truth: Array, noisy: Array, seconds: float) -> Row:
    """The figures of one fit."""
    found = accuracy(odds, truth)
    error = expected_calibration_error(reliability_table(sigmoid(odds), noisy))
    return Row(method, budget, seed, found.share, found.n, error, seconds)


def interval(values: Sequence[float]) -> str:
    """Mean and half width of the 95 % t interval over seeds."""
    if len(values) < 2:
        return f"{values[0]:.3f}"
    half = student.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.fmean(values):.3f} ± {half:.3f}"


def table(rows: Sequence[Row]) -> str:
    """Markdown, one line a budget and method."""
    lines = [
        "| labels | method | accuracy | minus bag of words (paired) | calibration error | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for budget in sorted({r.budget for r in rows}):
        words = {r.seed: r.accuracy for r in rows if r.budget == budget and r.method == "bag of words"}
        for method in dict.fromkeys(r.method for r in rows):
            found = [r for r in rows if (r.budget, r.method) == (budget, method)]
            seconds = statistics.fmean(r.seconds for r in found)
            gain = "" if method == "bag of words" else interval([r.accuracy - words[r.seed] for r in found])
            lines.append(
                f"| {budget} | {method} | {interval([r.accuracy for r in found])} | {gain} "
                f"| {interval([r.calibration_error for r in found])} | {seconds:.1f} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Measure and print the table."""
    config = parse(BenchmarkConfig, sys.argv[1:], prog="reward_model", description=__doc__ or "")
    rows = [row for seed in config.seeds for row in measure(config, seed)]
    tested = [r.n_test for r in rows]
    print(
        f"{len(config.seeds)} seeds, mean ± 95 % t interval; {min(tested)} to {max(tested)} fresh non-neutral samples,"
    )
    print(f"noise {config.noise:.0%}; {torch.get_num_threads()} torch threads, {config.model_name_or_path}\n")
    print(table(rows))


if __name__ == "__main__":
    main()
