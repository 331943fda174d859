"""Is PPO worth its KL? A ladder and best-of-n compared at the same KL, and the KL at which the ladder catches up.

The fields say `ppo` of any ladder, as evaluation.json does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlhf.inspection.best_of_n import BestOfN
from rlhf.inspection.evaluation import Evaluation
from rlhf.runs.reading import sqrt_kl

TIES_THAT_MATTER = 0.01  # of the pool


@dataclass(frozen=True, slots=True)
class EqualKl:
    """Mean of one reward under best-of-n and under PPO at best-of-n's KL (nats), with standard errors.

    `ppo_kl` is the KL at which PPO first reaches best-of-n's mean, None if no rung does. `bound`: rewards tie, so that
    best-of-n spends less KL than said.
    """

    reward: str
    n: int
    kl: float
    best_of_n: float
    best_of_n_se: float
    ppo: float
    ppo_se: float
    ppo_kl: float | None
    bound: bool = False

    @property
    def difference(self) -> float:
        """Best-of-n minus PPO."""
        return self.best_of_n - self.ppo

    @property
    def difference_se(self) -> float:
        """Standard error of the difference, as if the two were independent."""
        return math.hypot(self.best_of_n_se, self.ppo_se)

    def statement(self, method: str = "PPO") -> str:
        """Who is ahead at this KL, or that it is not resolved; `method` is what trained the ladder."""
        numbers = (
            f"at {'no more than ' if self.bound else ''}{self.kl:.1f} nats best-of-{self.n} has "
            f"{self.reward} {self.best_of_n:.3f} ± {self.best_of_n_se:.3f}, "
            f"{method} {self.ppo:.3f} ± {self.ppo_se:.3f}"
        )
        if abs(self.difference) <= 1.96 * self.difference_se:
            return f"Is {method} worth its KL? Not resolved: {numbers}."
        if self.difference < 0:
            return f"Is {method} worth its KL? Yes: {numbers}."
        if self.ppo_kl is None:
            later = f"{method} does not reach that up to its last rung; `rlhf sample --best_of {self.n}` ships it"
        else:
            later = (
                f"{method} reaches that at {self.ppo_kl:.1f} nats; `rlhf sample --best_of {self.n}` gives it for less"
            )
        return f"Is {method} worth its KL? No: {numbers}; {later}."


def at_equal_kl(evaluation: Evaluation, reward: str) -> EqualKl | None:
    """Compare at the largest n that is firm and whose KL lies on the ladder; None when there is none.

    PPO between two rungs is interpolated along √KL; its error is bounded by the weighted sum of theirs, since equal
    seeds make neighbouring rungs' errors alike.
    """
    scored = [(rung.sqrt_kl, rung.reward(reward)) for rung in evaluation.rungs]
    rungs = [(root, found.mean, found.se) for root, found in scored if found and found.se is not None]
    known = reward == "proxy" or bool(evaluation.best_of_n and reward in evaluation.best_of_n[0].gold)
    if len(rungs) < 2 or not known:
        return None
    roots, means, errors = (list(column) for column in zip(*rungs, strict=True))
    usable = [b for b in evaluation.best_of_n if b.n > 1 and b.firm and sqrt_kl(b.kl) <= roots[-1]]
    if not usable:
        return None
    best: BestOfN = usable[-1]
    root = sqrt_kl(best.kl)
    mean, error = best.reward(reward)
    return EqualKl(
        reward=reward,
        n=best.n,
        kl=best.kl,
        best_of_n=mean,
        best_of_n_se=error,
        ppo=float(np.interp(root, roots, means)),
        ppo_se=float(np.interp(root, roots, errors)),
        ppo_kl=first_reach(roots, means, mean),
        bound=evaluation.best_of_n_ties > TIES_THAT_MATTER,
    )


def first_reach(roots: Sequence[float], means: Sequence[float], level: float) -> float | None:
    """KL in nats at which the broken line through (√KL, mean) first reaches `level`; None if it never does."""
    if means[0] >= level:
        return roots[0] ** 2
    for i in range(1, len(means)):
        if means[i] >= level:
            share = (level - means[i - 1]) / (means[i] - means[i - 1])
            return float((roots[i - 1] + share * (roots[i] - roots[i - 1])) ** 2)
    return None
