"""How straight √KL grows with the optimiser's steps, and whether it goes back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from rlhf.runs.ladder import Rung


@dataclass(frozen=True, slots=True)
class Straightness:
    """A straight line through √KL (√nats) against optimiser steps, and how its two halves compare.

    `slope_ratio` is the slope of the second half over that of the first; its 95 % interval is None where the first
    half's slope cannot be told from zero.
    """

    n: int
    slope: float
    r_squared: float
    slope_ratio: float | None
    slope_ratio_interval: tuple[float, float] | None

    def text(self) -> str:
        """One line for people."""
        line = f"R² = {self.r_squared:.3f} over {self.n} iterations"
        if self.slope_ratio is None:
            return line
        interval = self.slope_ratio_interval
        told = "unbounded" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"
        return f"{line}; slope of the second half over the first {self.slope_ratio:.2f} (95 % interval {told})"


def straightness(optimizer_steps: Sequence[float], sqrt_kl: Sequence[float]) -> Straightness | None:
    """Fit √KL = a + b·steps to all points and to each half; None with fewer than 6 points or no spread in steps.

    The interval of the ratio is Fieller's (1954, "Some problems in interval estimation", J. R. Stat. Soc. B 16),
    from the scatter about each half's own line.
    """
    x, y = np.asarray(optimizer_steps, dtype=np.float64), np.asarray(sqrt_kl, dtype=np.float64)
    if x.size < 6 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    whole = stats.linregress(x, y)
    half = x.size // 2
    if np.ptp(x[:half]) == 0 or np.ptp(x[-half:]) == 0:
        return Straightness(int(x.size), float(whole.slope), float(whole.rvalue**2), None, None)
    first, second = stats.linregress(x[:half], y[:half]), stats.linregress(x[-half:], y[-half:])
    quantile = float(stats.t.ppf(0.975, df=2 * (half - 2)))
    interval = fieller(second.slope, second.stderr, first.slope, first.stderr, quantile)
    ratio = float(second.slope / first.slope) if first.slope else None
    return Straightness(int(x.size), float(whole.slope), float(whole.rvalue**2), ratio, interval)


def fieller(a: float, se_a: float, b: float, se_b: float, quantile: float) -> tuple[float, float] | None:
    """Interval of a/b for independent a and b: {ρ: (a - ρb)² ≤ q²(se_a² + ρ²se_b²)}; None when it is unbounded."""
    leading = b**2 - quantile**2 * se_b**2
    constant = a**2 - quantile**2 * se_a**2
    discriminant = (a * b) ** 2 - leading * constant
    if leading <= 0 or discriminant < 0:
        return None
    root = math.sqrt(discriminant)
    return float((a * b - root) / leading), float((a * b + root) / leading)


def went_back(rungs: Sequence[Rung]) -> str | None:
    """In a sentence, where a later rung has less KL than an earlier one and another reward beyond 2 standard errors (of
    the pairs the one with the largest difference); None where none has.

    Every curve along KL reads the rungs by their KL, which is the order of training only while KL rises.
    """
    trained = sorted(rungs, key=lambda rung: rung.iteration)
    pairs = [(one, later) for n, one in enumerate(trained) for later in trained[n + 1 :] if _back_and_other(one, later)]
    if not pairs:
        return None
    one, later = max(pairs, key=lambda pair: abs(pair[1].reward - pair[0].reward))
    return (
        f"KL went back while the reward moved: {_told(one)}, {_told(later)}. Curves along KL read the rungs by their "
        "KL, not in the order of training: what changed at one KL stands in them as a jump."
    )


def _back_and_other(one: Rung, later: Rung) -> bool:
    apart = abs(later.reward - one.reward) > 2 * math.hypot(one.reward_se, later.reward_se)
    return later.kl_per_completion < one.kl_per_completion and apart


def _told(rung: Rung) -> str:
    kl = f"{rung.kl_per_completion:.2f} ± {rung.kl_per_completion_se:.2f} nats"
    return f"iteration {rung.iteration} has {kl} and a reward of {rung.reward:.3f} ± {rung.reward_se:.3f}"
