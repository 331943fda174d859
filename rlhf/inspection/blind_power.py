"""What a blind rating can show, told before anything goes out: power, smallest effect, samples needed.

Raters are modelled as people with a scale of five: a sample has a quality, normal around its model's; a rater adds
normal noise and rounds to 1..5. Power is that of a t-test on sample means with the mean and spread that this model
gives, which the exact permutation test follows closely (checked by simulation).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats

from rlhf.inspection.estimates import Floats

POINTS = np.arange(1, 6)
CUTS = np.array([-np.inf, 1.5, 2.5, 3.5, 4.5, np.inf])


@dataclass(frozen=True, slots=True)
class Raters:
    """How ratings come about: spread of quality between samples and of a rater's noise, in points of the scale."""

    sample_sd: float = 0.9
    rater_sd: float = 0.7
    count: int = 1

    def moments(self, quality: float) -> tuple[float, float]:
        """Mean and variance of a sample's rating averaged over the raters, for a model of this mean quality."""
        nodes, weights = _quadrature()
        rated = rating_probabilities(quality + self.sample_sd * nodes, self.rater_sd)  # (nodes, 5)
        means = rated @ POINTS
        noise = rated @ POINTS**2 - means**2
        mean = float(weights @ means)
        return mean, float(weights @ (means - mean) ** 2 + weights @ noise / self.count)

    def ratings(self, generator: np.random.Generator, qualities: Floats) -> Floats:
        """Simulated ratings (samples, raters) of samples with these qualities (samples,)."""
        noise = generator.normal(0, self.rater_sd, size=(len(qualities), self.count))
        return np.clip(np.rint(qualities[:, None] + noise), 1, 5)


@lru_cache(maxsize=1)
def _quadrature() -> tuple[Floats, Floats]:
    """Nodes and weights of an average over a standard normal."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(61)
    return nodes, weights / weights.sum()


def rating_probabilities(qualities: Floats, noise: float) -> Floats:
    """(samples, 5) probability of each rating for samples of these qualities."""
    if noise == 0:
        sharp: Floats = (np.clip(np.rint(qualities), 1, 5)[:, None] == POINTS).astype(np.float64)
        return sharp
    probabilities: Floats = np.diff(stats.norm.cdf((CUTS - qualities[:, None]) / noise), axis=1)
    return probabilities


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """Power of a study of n samples a model: for a wanted effect, the smallest effect with 80 %, the n for 80 %.

    Effects are differences of mean ratings in points; `needed` is None above 5,000 samples a model.
    """

    samples: int
    models: int
    raters: Raters
    effect: float
    power: float
    smallest_effect: float | None
    needed: int | None

    def statements(self) -> list[str]:
        """What to tell a person before a packet goes out."""
        told = [
            f"{self.samples} samples a model, {self.raters.count} rater{'s' if self.raters.count > 1 else ''}, "
            f"{self.models} model{'s' if self.models > 1 else ''} against the original: a true difference of "
            f"{self.effect:.2f} points is found with {self.power:.0%} power (5 % two-sided, Holm)."
        ]
        if self.smallest_effect is None:
            told.append("No difference on this scale reaches 80 % power with so few samples.")
        else:
            told.append(f"The smallest difference found with 80 % power is {self.smallest_effect:.2f} points.")
        wanted = f"For {self.effect:.2f} points and 80 % power"
        told.append(f"{wanted} rate {self.needed or 'more than 5,000'} samples a model.")
        told.append(
            f"Assumed: qualities of samples spread by {self.raters.sample_sd:g} points, a rater's noise by "
            f"{self.raters.rater_sd:g}."
        )
        return told


def plan_study(samples: int, effect: float, raters: Raters, models: int = 1) -> StudyPlan:
    """The plan of a study of `models` models against the original, `samples` of each, for a wanted effect in points."""
    found = power(samples, effect, raters, models)
    return StudyPlan(
        samples, models, raters, effect, found, smallest_effect(samples, raters, models), needed(effect, raters, models)
    )


def power(samples: int, effect: float, raters: Raters, models: int = 1) -> float:
    """Probability that a model better by `effect` points is found, two-sided 5 % shared among the models (Bonferroni
    bounds Holm's first step).
    """
    (low, low_variance), (high, high_variance) = (raters.moments(q) for q in quality_pair(effect, raters))
    error = math.sqrt((low_variance + high_variance) / samples)
    if error == 0:
        return 1.0 if effect else 0.05
    freedom = 2 * samples - 2
    # Differences of means lie 2/(n·raters) apart; an exact test loses half a step to that (continuity correction).
    half_step = 1 / (samples * raters.count) / error
    critical, shift = float(stats.t.ppf(1 - 0.025 / models, freedom)) + half_step, (high - low) / error
    if freedom > 200:  # scipy's non-central t fails far out, where it is a normal anyway
        return float(stats.norm.sf(critical - shift) + stats.norm.cdf(-critical - shift))
    return float(stats.nct.sf(critical, freedom, shift) + stats.nct.cdf(-critical, freedom, shift))


@lru_cache(maxsize=256)
def quality_pair(effect: float, raters: Raters) -> tuple[float, float]:
    """Qualities around the middle of the scale whose mean ratings differ by `effect` points."""
    apart = [0.0, 12.0]
    for _ in range(36):  # bisection: the mean rating grows with quality
        middle = sum(apart) / 2
        gap = raters.moments(3 + middle / 2)[0] - raters.moments(3 - middle / 2)[0]
        apart[int(gap > effect)] = middle
    return 3 - apart[0] / 2, 3 + apart[0] / 2


def smallest_effect(samples: int, raters: Raters, models: int = 1) -> float | None:
    """Smallest difference in points with 80 % power; None when even 3.5 points have not."""
    if power(samples, 3.5, raters, models) < 0.8:
        return None
    low, high = 0.0, 3.5
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if power(samples, middle, raters, models) >= 0.8 else (middle, high)
    return high


def needed(effect: float, raters: Raters, models: int = 1) -> int | None:
    """Samples a model for 80 % power; None above 5,000."""
    low, high = 2, 5000
    if power(high, effect, raters, models) < 0.8:
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle, effect, raters, models) >= 0.8 else (middle + 1, high)
    return high
