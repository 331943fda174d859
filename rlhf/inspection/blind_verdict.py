"""The verdict of a blind rating: is a model's mean rating above the original's, by how much, and how sure is that?

The unit is the sample: ratings of one sample are averaged over raters first, since three raters of 40 samples are 40
observations, not 120. The test is an exact permutation test of the difference of means (Fisher 1935; Pitman 1937),
counted, not sampled; several models against the original are Holm-corrected (Holm 1979).

Shapes: n samples of a model.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from scipy import stats

from labeling.blind import Unblinded
from labeling.rater_agreement import krippendorff_alpha
from rlhf.foundation.errors import InputError
from rlhf.inspection.estimates import Floats

LEVEL = 0.05
LARGEST_SCALE = 60  # common denominator of sample means up to which the permutation distribution is counted
DRAWS = 100_000
Finding = Literal["better", "worse", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Contrast:
    """One model against the original. `effect` is the difference of mean ratings (points) with its 95 % interval.

    `p` is two-sided and exact (or from 100,000 permutations where counting is too large), `p_holm` corrected for the
    number of models compared; "inconclusive" is not "no difference".
    """

    model: str
    finding: Finding
    effect: float
    interval: tuple[float, float]
    p: float
    p_holm: float
    mean: float
    original_mean: float
    samples: int
    original_samples: int

    def statement(self) -> str:
        """The verdict in one sentence."""
        said = {"better": "is rated better than", "worse": "is rated worse than"}
        p = "p < 0.001" if self.p_holm < 0.001 else f"p = {self.p_holm:.3f}"
        numbers = (
            f"{self.effect:+.2f} points (95 % interval {self.interval[0]:+.2f} to {self.interval[1]:+.2f}; exact "
            f"permutation test {p}{'' if self.p == self.p_holm else ', Holm-corrected'}; "
            f"{self.samples} samples against {self.original_samples})"
        )
        if self.finding == "inconclusive":
            return f"{self.model} against the original: inconclusive, {numbers}."
        return f"{self.model} {said[self.finding]} the original: {numbers}."


@dataclass(frozen=True, slots=True)
class Verdict:
    """All contrasts of a study, how far its raters agree, and whether texts were left unrated."""

    original: str
    contrasts: list[Contrast]
    raters: int
    ratings: int
    alpha: float | None
    alpha_interval: tuple[float, float] | None
    partial: bool
    unrated: int

    def statements(self) -> list[str]:
        """What to tell a person."""
        told = [contrast.statement() for contrast in self.contrasts]
        if self.alpha is None:
            told.append(f"{self.raters} rater{'s' if self.raters > 1 else ''}, no text rated twice: agreement unknown.")
        else:
            low, high = self.alpha_interval or (math.nan, math.nan)
            told.append(
                f"{self.raters} raters agree with Krippendorff's alpha {self.alpha:.2f} (95 % interval {low:.2f} to "
                f"{high:.2f}); 1 is perfect, 0 is chance."
            )
        if self.partial:
            told.append(
                f"PARTIAL: {self.unrated} ratings are missing; unblinding early invites stopping when it suits."
            )
        return told


def sample_means(rows: Sequence[Unblinded]) -> dict[str, list[Fraction]]:
    """Mean rating of every sample over its raters, by source."""
    by_sample: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row in rows:
        by_sample[row.source, row.sample_uid].append(row.rating)
    means: dict[str, list[Fraction]] = defaultdict(list)
    for (source, _), ratings in by_sample.items():
        means[source].append(Fraction(sum(ratings), len(ratings)))
    return dict(means)


def judge(rows: Sequence[Unblinded], original: str, *, unrated: int = 0) -> Verdict:
    """The verdict over unblinded ratings; `unrated` counts those still missing.

    Raises InputError when the original or every other model has fewer than two rated samples.
    """
    means = sample_means(rows)
    few = [name for name in (original, *means) if len(means.get(name, [])) < 2]
    if few or len(means) < 2:
        raise InputError(
            "ratings",
            got=f"fewer than two rated samples of {few[0]}" if few else "samples of one model only",
            expected="at least two of the original and of every model compared",
            fix="rate more, or push another packet",
        )
    others = [name for name in means if name != original]
    tested = [permutation_p(means[name], means[original]) for name in others]
    corrected = holm(tested)
    found = [
        contrast(name, means[name], means[original], p, p_holm)
        for name, p, p_holm in zip(others, tested, corrected, strict=True)
    ]
    by_text: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row in rows:
        by_text[row.source, row.sample_uid].append(row.rating - 1)
    agreement = krippendorff_alpha(list(by_text.values()), 5)
    known = agreement.low is not None and agreement.high is not None
    return Verdict(
        original=original,
        contrasts=found,
        raters=len({row.annotator for row in rows}),
        ratings=len(rows),
        alpha=agreement.value,
        alpha_interval=(float(agreement.low or 0), float(agreement.high or 0)) if known else None,
        partial=unrated > 0,
        unrated=unrated,
    )


def contrast(
    model: str, ratings: Sequence[Fraction], original: Sequence[Fraction], p: float, p_holm: float
) -> Contrast:
    """Effect, Welch interval and finding of one model."""
    a, b = (np.array([float(r) for r in group]) for group in (ratings, original))
    effect = float(a.mean() - b.mean())
    finding: Finding = "inconclusive" if p_holm > LEVEL else "better" if effect > 0 else "worse"
    return Contrast(
        model=model,
        finding=finding,
        effect=effect,
        interval=welch_interval(a, b),
        p=p,
        p_holm=p_holm,
        mean=float(a.mean()),
        original_mean=float(b.mean()),
        samples=len(a),
        original_samples=len(b),
    )


def welch_interval(a: Floats, b: Floats) -> tuple[float, float]:
    """95 % interval of mean(a) - mean(b) with Welch's degrees of freedom; a point when neither varies."""
    variance_a, variance_b = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    effect, error = float(a.mean() - b.mean()), math.sqrt(variance_a + variance_b)
    if error == 0:
        return effect, effect
    freedom = error**4 / (variance_a**2 / (len(a) - 1) + variance_b**2 / (len(b) - 1))
    half = float(stats.t.ppf(0.975, freedom)) * error
    return effect - half, effect + half


def permutation_p(a: Sequence[Fraction], b: Sequence[Fraction]) -> float:
    """Two-sided p of |mean(a) - mean(b)| over all ways to deal the pooled values into groups of these sizes.

    Counted exactly when the values have a small common denominator, as averages of a few raters do; otherwise from
    100,000 permutations with the observed one among them (Phipson and Smyth 2010).
    """
    pooled = [*a, *b]
    scale = math.lcm(*(value.denominator for value in pooled))
    values = [int(value * scale) for value in pooled] if scale <= LARGEST_SCALE else None
    if values is None:
        return _sampled_p(np.array([float(v) for v in a]), np.array([float(v) for v in b]))
    low = min(values)
    return _counted_p([value - low for value in values], len(a))


def _counted_p(values: Sequence[int], size: int) -> float:
    """P(|S - E S| ≥ |s - E S|) for the sum S of `size` values dealt at random, s the sum of the first `size`.

    ways[k, s] counts the choices of k values with sum s, value by value.
    """
    total = sum(values)
    ways = np.zeros((size + 1, total + 1))
    ways[0, 0] = 1.0
    for value in values:
        ways[1:, value:] += ways[:-1, : total + 1 - value].copy()
    sums = np.arange(total + 1) * len(values)  # compared in integers: n·S with size·total
    distance = np.abs(sums - size * total)
    observed = abs(sum(values[:size]) * len(values) - size * total)
    return float(ways[size][distance >= observed].sum() / ways[size].sum())


def _sampled_p(a: Floats, b: Floats, seed: int = 0) -> float:
    pooled, generator = np.concatenate([a, b]), np.random.default_rng(seed)
    observed = abs(a.mean() - pooled.mean())
    hits = 0
    for _ in range(DRAWS // 1000):
        dealt = generator.permuted(np.tile(pooled, (1000, 1)), axis=1)[:, : len(a)]
        hits += int((np.abs(dealt.mean(axis=1) - pooled.mean()) >= observed - 1e-12).sum())
    return (hits + 1) / (DRAWS + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given."""
    order = np.argsort(p_values, kind="stable")
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted
