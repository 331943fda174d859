"""How much a ladder overoptimised, as one number: the area between gold and proxy over the area under gold.

γ = ∫|g(d) - p(d)| dd / ∫g(d) dd over d = √KL from the original to the last rung (Kim et al. 2025, arXiv 2505.12763, who
write it for best-of-n; here for any ladder, through the rungs' means in place of fitted curves). g and p are the gains
of gold and proxy over the original, each in standard deviations of the original's own samples, as Gao et al. 2022 scale
reward models. 0: gold kept up with the proxy; 1: the gap is as large as what gold gained; beyond: larger.

Shapes: R rungs, N samples of a rung, B bootstrap draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlhf.inspection.estimates import Floats, bootstrap_means
from rlhf.inspection.overoptimisation import Course

DRAWS = 1000


@dataclass(frozen=True, slots=True)
class Degree:
    """γ and its standard error by the bootstrap over samples, joint over rungs and both rewards; the original's
    standard deviations are taken as known."""

    value: float
    se: float


def overoptimisation_degree(gold: Course, proxy: Course, *, draws: int = DRAWS, seed: int = 0) -> Degree | None:
    """γ of one ladder, whose first rung is the original. None with fewer than two rungs, a constant reward, or where
    gold gained nothing: a ratio to nothing is no number."""
    if len(gold.d) < 2 or not np.array_equal(gold.d, proxy.d):
        return None
    spreads = [float(np.nanstd(course.scores[0], ddof=1)) for course in (gold, proxy)]
    if not all(np.isfinite(spread) and spread > 0 for spread in spreads):
        return None
    value = float(_ratio(gold.d, gold.means[None] / spreads[0], proxy.means[None] / spreads[1])[0])
    both = bootstrap_means(np.vstack([gold.scores, proxy.scores]), draws, seed)  # (B, 2R)
    rungs = len(gold.d)
    drawn = _ratio(gold.d, both[:, :rungs] / spreads[0], both[:, rungs:] / spreads[1])
    drawn = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or drawn.size < 0.9 * draws:
        return None
    return Degree(value, float(drawn.std(ddof=1)))


def _ratio(d: Floats, gold: Floats, proxy: Floats) -> Floats:
    """(B,) γ of means (B, R), NaN where the area under gold is not above 0."""
    gained, promised = gold - gold[:, :1], proxy - proxy[:, :1]
    under = np.trapezoid(gained, d, axis=1)
    between = _area_between(d, gained - promised)
    ratio: Floats = np.where(under > 0, between / np.where(under > 0, under, 1.0), np.nan)
    return ratio


def _area_between(d: Floats, gap: Floats) -> Floats:
    """(B,) ∫|gap| of straight lines through (B, R): where the sign changes within a step, two triangles."""
    left, right, step = np.abs(gap[:, :-1]), np.abs(gap[:, 1:]), np.diff(d)
    crosses = gap[:, :-1] * gap[:, 1:] < 0
    total = np.where(crosses, left + right, 1.0)
    heights = np.where(crosses, (left**2 + right**2) / total, left + right)
    area: Floats = (heights * step / 2).sum(axis=1)
    return area
