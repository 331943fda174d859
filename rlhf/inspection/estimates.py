"""Means with their errors, and a bootstrap that resamples the same sample indices on every rung.

Every rung of a ladder is evaluated on the same prompts and seeds, so errors of neighbouring rungs are correlated;
resampling one rung at a time would make differences between rungs look noisier than they are.

Shapes: R rungs, N samples of a rung, B bootstrap draws.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean, its standard error (None when n < 2) and the number of samples behind it."""

    mean: float
    se: float | None
    n: int

    def text(self, digits: int = 2) -> str:
        """`1.23 ± 0.04 (n = 512)`."""
        error = "" if self.se is None else f" ± {self.se:.{digits}f}"
        return f"{self.mean:.{digits}f}{error} (n = {self.n:,})"


def mean_estimate(values: Iterable[float | None]) -> Estimate | None:
    """Mean of the values that are there, se = s/√n with s² = Σ(x-x̄)²/(n-1); None when no value is there."""
    there = np.array([v for v in values if v is not None and math.isfinite(v)], dtype=np.float64)
    if not there.size:
        return None
    se = float(there.std(ddof=1) / math.sqrt(there.size)) if there.size > 1 else None
    return Estimate(float(there.mean()), se, int(there.size))


def score_matrix(rows: Sequence[Sequence[float | None]]) -> Floats:
    """(R, N) scores with NaN where a sample was not scored; rungs are cut to the shortest, so that indices pair."""
    shortest = min(len(row) for row in rows)
    return np.array([[math.nan if v is None else v for v in row[:shortest]] for row in rows], dtype=np.float64)


def bootstrap_means(scores: Floats, draws: int = 2000, seed: int = 0) -> Floats:
    """(B, R) means of every rung under joint resampling of the sample index; unscored samples are left out.

    One draw's means are Σ_i w_i x_ri / Σ_i w_i over the scored i, with multinomial counts w shared by all rungs.
    Draws that left a rung without a scored sample are dropped, so B may be below `draws`.
    """
    count = scores.shape[1]
    weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws).astype(np.float64)
    scored = np.isfinite(scores)
    totals = weights @ np.where(scored, scores, 0.0).T
    with np.errstate(invalid="ignore", divide="ignore"):
        means = totals / (weights @ scored.T.astype(np.float64))
    kept: Floats = means[np.isfinite(means).all(axis=1)]
    return kept


def percentile_interval(values: Floats, level: float = 0.95) -> tuple[float, float]:
    """The central `level` percentile interval of bootstrap draws, NaN left out."""
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
