"""How accuracy grows with labels, and how many more would show that a reward model is better than chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from rewards.calibration import Proportion, wilson

_LARGEST_FACTOR = 64


class CurvePoint(NamedTuple):
    """Held-out accuracy of a model fitted to `n_texts` texts."""

    n_texts: int
    accuracy: Proportion


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
