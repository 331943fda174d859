"""How accuracy grows with labels: when to stop labelling, and how many more would show that a model knows anything.

Shapes: N held-out texts, K points of the curve, D bootstrap draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rewards.held_out import HeldOut
from rewards.targets import LabelledText, fold_of_text
from rewards.token_recipe import Recipe
from rlhf.foundation.proportion import Proportion, wilson

SHARES = (0.25, 0.5, 0.75, 1.0)
NEXT = 100
_N_FOLDS = 5
_DRAWS = 2000

_LARGEST_FACTOR = 64


class CurvePoint(NamedTuple):
    """Held-out accuracy of a model fitted to `n_texts` texts."""

    n_texts: int
    accuracy: Proportion


class Gain(NamedTuple):
    """Expected rise of the accuracy by the next `labels` labels, with a 95 % interval."""

    labels: int
    gain: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """Held-out accuracy at growing shares of the labels, always on the same held-out texts, and what to expect."""

    points: list[CurvePoint]
    next_gain: Gain

    def report(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "held_out_texts_judged": self.points[-1].accuracy.n,
            "points": [{"texts": p.n_texts, "accuracy": p.accuracy._asdict()} for p in self.points],
            "next_gain": self.next_gain._asdict(),
        }


def measure_curve(
    recipe: Recipe, texts: Sequence[LabelledText], on_step: Callable[[], None] = lambda: None
) -> LearningCurve:
    """Fit the recipe to 25, 50, 75 and 100 % of the labels outside one fifth that is held out throughout.

    Each share contains the smaller ones. See `expected_gain` for what is expected of the next 100 labels.
    """
    folds = fold_of_text(texts, _N_FOLDS, recipe.seed)
    held_out = [text for text, fold in zip(texts, folds, strict=True) if fold == 0]
    training = [text for text, fold in zip(texts, folds, strict=True) if fold != 0]
    order = fold_of_text(training, len(training), recipe.seed)  # verdicts interleaved, so that each share is alike
    training = [training[i] for i in np.argsort(order, kind="stable")]
    sizes = [max(2, round(share * len(training))) for share in SHARES]
    tested = [recipe.test(recipe.fit(training[:size], on_step), held_out) for size in sizes]
    points = [CurvePoint(size, part.accuracy) for size, part in zip(sizes, tested, strict=True)]
    return LearningCurve(points, expected_gain(sizes, tested, len(texts), seed=recipe.seed))


def curve_steps(recipe: Recipe, n_texts: int) -> int:
    """Optimiser steps of `measure_curve`, for a progress bar."""
    sizes = [max(2, round(share * (n_texts - n_texts // _N_FOLDS))) for share in SHARES]
    return sum(recipe.settings_for(size).steps(size) for size in sizes)


def expected_gain(sizes: Sequence[int], tested: Sequence[HeldOut], n_now: int, *, seed: int) -> Gain:
    """The rise from `n_now` to `n_now` + 100 labels along accuracy = a + b log(size), b by least squares.

    gain = b log((n_now + 100) / n_now). The interval comes from 2,000 bootstrap draws of the held-out texts, the
    same draw at every size; the chance of the fits themselves (seed, choice of labels) is not in it.
    """
    right = np.stack([_right(part) for part in tested])  # (K, N judged)
    rng = np.random.default_rng(seed)
    drawn = right[:, rng.integers(right.shape[1], size=(_DRAWS, right.shape[1]))].mean(axis=2)  # (K, D)
    log_sizes = np.log(np.asarray(sizes, dtype=float))
    centred = log_sizes - log_sizes.mean()  # (K,)
    factor = math.log((n_now + NEXT) / n_now) / float(centred @ centred)
    low, high = np.percentile(factor * (centred @ drawn), [2.5, 97.5])
    return Gain(NEXT, float(factor * (centred @ right.mean(axis=1))), float(low), float(high))


def _right(part: HeldOut) -> NDArray[np.float64]:
    """1 where a judged text's side is right, 1/2 where the model does not decide, else 0."""
    judged = part.said != 0.5
    agrees = np.sign(part.log_odds[judged]) * np.sign(part.said[judged] - 0.5)
    return np.asarray((agrees + 1) / 2, dtype=np.float64)


class Suggestion(NamedTuple):
    """Texts to label in all. `at_least`: the curve shows no rise yet, so the number is a lower bound."""

    n_texts: int
    at_least: bool

    def __str__(self) -> str:
        return f"{'at least' if self.at_least else 'about'} {self.n_texts:,} labelled texts"


def suggest_labels(points: Sequence[CurvePoint], chance: float, judged_share: float) -> Suggestion:
    """Texts that would show accuracy above `chance`, if its excess goes on growing as c √n.

    c is the least-squares slope through the origin of (accuracy - chance) on √n, each point weighted by the texts it
    was measured on; where c is not above its standard error, c plus that error is used and the number is a lower
    bound. `judged_share` is the number of held-out texts that accuracy is measured on per labelled text. The number
    is the smallest, in steps of a quarter, for which the expected accuracy's Wilson interval lies above chance.
    """
    weighted = sum(p.accuracy.n * p.n_texts for p in points)
    slope = sum(p.accuracy.n * math.sqrt(p.n_texts) * (p.accuracy.share - chance) for p in points) / weighted
    error = math.sqrt(chance * (1 - chance) / weighted)
    at_least = slope <= error
    rate = slope + error if at_least and slope + error > 0 else max(slope, error)
    largest = max(p.n_texts for p in points)
    n_texts = float(largest)
    while n_texts < _LARGEST_FACTOR * largest:
        n_texts *= 1.25
        judged = max(1, round(judged_share * n_texts))
        expected = min(0.95, chance + rate * math.sqrt(n_texts))
        if wilson(expected * judged, judged).low > chance:
            break
    return Suggestion(_two_digits(n_texts), at_least)


def _two_digits(n: float) -> int:
    """Rounded up to two significant digits: more would pretend to know."""
    step = 10 ** max(0, math.floor(math.log10(n)) - 1)
    return int(math.ceil(n / step) * step)
