"""How often a reward model is right, and whether its probabilities mean what they say.

Shapes: N texts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlhf.foundation.proportion import Proportion, wilson

Array = NDArray[np.float64]


def accuracy(log_odds: Array, targets: Array) -> Proportion:
    """How often sign(log_odds) agrees with targets above or below one half; texts at one half are left out.

    log_odds (N,), targets (N,) in [0, 1]. Log-odds of exactly 0 count one half.
    """
    judged = targets != 0.5
    agrees = np.sign(log_odds[judged]) * np.sign(targets[judged] - 0.5)
    return wilson(float((agrees > 0).sum() + 0.5 * (agrees == 0).sum()), int(judged.sum()))


class Bin(NamedTuple):
    """One row of a reliability table: n texts, the mean predicted and the mean labelled probability."""

    n: int
    predicted: float
    labelled: float


def reliability_table(probabilities: Array, targets: Array, n_bins: int = 10) -> list[Bin]:
    """Texts in order of probability, cut into `n_bins` bins of equal mass (sizes differ by at most one)."""
    order = np.argsort(probabilities, kind="stable")
    return [
        Bin(len(rows), float(probabilities[rows].mean()), float(targets[rows].mean()))
        for rows in np.array_split(order, min(n_bins, len(order)))
    ]


def expected_calibration_error(table: list[Bin]) -> float:
    """ECE = Σ_b n_b/N |predicted_b - labelled_b|, between 0 and 1 (Naeini et al. 2015; Guo et al. 2017, eq. 3)."""
    total = sum(row.n for row in table)
    return sum(row.n / total * abs(row.predicted - row.labelled) for row in table)


def sigmoid(log_odds: Array) -> Array:
    """Probability from log-odds, without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * log_odds))
