"""Where labelled gold stops rising along √KL while the proxy goes on, or that it does not.

Shapes: R rungs, N samples of a rung, B bootstrap draws. d is √KL(policy || original) in √nats per completion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rlhf.inspection.estimates import Floats, bootstrap_means, percentile_interval

Status = Literal["onset", "none_seen", "not_resolved", "too_few_rungs"]
FEWEST_RUNGS = 3


@dataclass(frozen=True, slots=True)
class Onset:
    """Where a gold reward is highest along the ladder and whether its fall afterwards is more than noise.

    `d` is √KL at the highest rung with the 95 % bootstrap interval of that argmax; `fall` is the mean lost from
    there to the last rung, `fall_se` its standard error; `proxy_gain` is what the proxy gained meanwhile. All
    errors are of this run only: another seed would give another policy.
    """

    gold: str
    status: Status
    rung: str
    d: float
    interval: tuple[float, float]
    last_d: float
    fall: float
    fall_se: float
    proxy_gain: float
    n: int

    def statement(self) -> str:
        """The finding in one or two plain sentences, KL in nats."""
        here, low, high = self.d**2, self.interval[0] ** 2, self.interval[1] ** 2
        far = self.last_d**2
        if self.status == "too_few_rungs":
            return (
                f"{self.gold}: fewer than {FEWEST_RUNGS} rungs with samples, so nothing can be said about its course."
            )
        if self.status == "none_seen":
            return f"{self.gold}: no overoptimisation seen up to {far:.1f} nats; it is highest at the last rung."
        if self.status == "not_resolved":
            return (
                f"{self.gold}: no overoptimisation resolved up to {far:.1f} nats with {self.n:,} samples a rung; "
                f"highest at {here:.1f} nats, but the fall after it, {self.fall:.3f} ± {self.fall_se:.3f}, is within "
                "what noise among rungs makes."
            )
        course = "goes on rising" if self.proxy_gain > 0 else "does not rise either"
        return (
            f"{self.gold} stops rising at {here:.1f} nats (95 % interval {low:.1f} to {high:.1f}, this run only) and "
            f"loses {self.fall:.3f} ± {self.fall_se:.3f} by {far:.1f} nats, while the proxy {course} "
            f"({self.proxy_gain:+.3f})."
        )


def find_onset(
    gold: str, names: Sequence[str], sqrt_kl: Sequence[float], scores: Floats, proxy: Floats, draws: int = 2000
) -> Onset:
    """Argmax of the rung means of `scores` (R, N) with a paired bootstrap; rungs go up in `sqrt_kl`.

    The fall is called resolved when max_j (m_j - m_last) exceeds the 95 % point of the same maximum over centred
    bootstrap draws, which allows for the highest of several rungs being partly luck.
    """
    d = np.asarray(sqrt_kl, dtype=np.float64)
    means = np.nanmean(scores, axis=1)
    best = int(np.argmax(means))
    resampled = bootstrap_means(scores, draws)  # (B, R)
    falls = resampled - resampled[:, -1:]
    observed = means - means[-1]
    threshold = float(np.quantile((falls - observed).max(axis=1), 0.95))
    status: Status
    if len(names) < FEWEST_RUNGS:
        status = "too_few_rungs"
    elif best == len(names) - 1:
        status = "none_seen"
    else:
        status = "onset" if observed[best] > threshold else "not_resolved"
    proxy_means = np.nanmean(proxy, axis=1)
    return Onset(
        gold=gold,
        status=status,
        rung=names[best],
        d=float(d[best]),
        interval=percentile_interval(d[np.argmax(resampled, axis=1)]),
        last_d=float(d[-1]),
        fall=float(observed[best]),
        fall_se=float(falls[:, best].std(ddof=1)),
        proxy_gain=float(proxy_means[-1] - proxy_means[best]),
        n=int(np.isfinite(scores).sum(axis=1).min()),
    )
