"""What share of the frontier's gain a run has: the reward that it bought, over the most that its nats can buy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rlhf.inspection.estimates import score_matrix
from rlhf.inspection.evaluation import Evaluation
from rlhf.inspection.gibbs_frontier import TOLD, GibbsPoint
from rlhf.inspection.scoring import PROXY


@dataclass(frozen=True, slots=True)
class KLShare:
    """At `kl` nats: the proxy's gain of a run over the original, the frontier's, and their ratio, with standard errors.

    Both gains are over the mean of the original's samples that the frontier is made of: its error moves run and
    frontier alike, and hardly moves a share near 1.
    """

    kl: float
    gain: float
    gain_se: float
    frontier: float
    frontier_se: float
    share_se: float

    @property
    def share(self) -> float:
        """Of the frontier's gain; 1 is the best that any policy can do."""
        return self.gain / self.frontier

    def text(self) -> str:
        """`57 ± 3 % at 2 nats`."""
        return f"{self.share:.0%} ± {self.share_se:.0%} at {self.kl:g} nat{'' if self.kl == 1 else 's'}"


def kl_shares(evaluation: Evaluation) -> list[KLShare]:
    """At 1, 2 and 4 nats, where both the ladder and the frontier reach."""
    points = {point.kl: point for point in evaluation.frontier}
    found = (_share(evaluation, points[kl]) for kl in TOLD if kl in points)
    return [share for share in found if share is not None]


def _share(evaluation: Evaluation, point: GibbsPoint) -> KLShare | None:
    """Between two rungs the run is interpolated along √KL; the error is of its mean reward and of the rungs' KL."""
    rungs = [rung for rung in evaluation.rungs if rung.proxy is not None]
    roots = [rung.sqrt_kl for rung in rungs]
    root = math.sqrt(point.kl)
    if len(rungs) < 2 or not roots[0] <= root <= roots[-1]:
        return None
    upper = next(i for i in range(1, len(roots)) if roots[i] >= root)
    along = (root - roots[upper - 1]) / (roots[upper] - roots[upper - 1])
    scores = score_matrix([evaluation.scores[rung.name][PROXY] for rung in rungs[upper - 1 : upper + 1]])
    between = (1 - along) * scores[0] + along * scores[1]
    between = between[np.isfinite(between)]
    if between.size < 2:
        return None
    slope = (np.nanmean(scores[1]) - np.nanmean(scores[0])) / (rungs[upper].kl - rungs[upper - 1].kl)
    of_kl = slope * ((1 - along) * (rungs[upper - 1].kl_se or 0.0) + along * (rungs[upper].kl_se or 0.0))
    of_run = float(between.var(ddof=1)) / between.size + float(of_kl) ** 2
    of_original = evaluation.best_of_n[0].proxy_se ** 2  # n = 1: the mean of the samples behind the frontier
    gain = float(between.mean()) - (point.proxy - point.gain)
    share = gain / point.gain
    # Cov(-original, frontier - original), from the three variances that are known
    together = (of_original + point.gain_se**2 - point.proxy_se**2) / 2
    of_gains = max(0.0, of_original + (share * point.gain_se) ** 2 - 2 * share * together)
    error = math.sqrt(of_run + of_gains) / abs(point.gain)
    return KLShare(point.kl, gain, math.sqrt(of_run + of_original), point.gain, point.gain_se, error)


def statement(evaluation: Evaluation) -> str | None:
    """One sentence; None where the frontier or the ladder does not reach a nat."""
    shares = kl_shares(evaluation)
    if not shares:
        return None
    told = ", ".join(share.text() for share in shares)
    return f"Of the most reward that any policy can have at its KL, this one gained {told}."
