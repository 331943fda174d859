"""What a reward model says of texts it was not fitted on, and what follows for its trustworthiness."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewards.calibration import (
    accuracy,
    expected_calibration_error,
    reliability_table,
    sigmoid,
)
from rlhf.foundation.proportion import Proportion

_LARGEST_TEMPERATURE = 20.0
ASSOCIATION_P = 0.025  # one side of 95 %


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Log-odds of the target and the soft targets of N texts that the scoring model had not seen.

    `verdicts` is what raters say on balance, 1, 1/2 (undecided) or 0; None: the side of one half that the target lies
    on. Pooled targets are seldom exactly one half, so that the target alone does not tell who was undecided.
    """

    log_odds: NDArray[np.float64]  # (N,)
    targets: NDArray[np.float64]  # (N,) probability that the text is what the reward is towards, as pooled
    verdicts: NDArray[np.float64] | None = None  # (N,)

    @property
    def said(self) -> NDArray[np.float64]:
        """(N,) 1, 1/2 or 0: the side that raters take."""
        if self.verdicts is not None:
            return self.verdicts
        return np.asarray((np.sign(self.targets - 0.5) + 1) / 2, dtype=np.float64)

    @property
    def accuracy(self) -> Proportion:
        """Share of the texts called non-neutral on balance whose side the model gets right."""
        return accuracy(self.log_odds, self.said)

    @property
    def majority_share(self) -> Proportion:
        """What always naming the more frequent class would reach on the same texts."""
        judged = self.said[self.said != 0.5]
        constant = np.full(len(judged), 1.0 if (judged > 0.5).mean() >= 0.5 else -1.0)
        return accuracy(constant, judged)

    @property
    def better_than_chance(self) -> bool:
        """Whether the accuracy's 95 % interval lies above the majority share, or the sign goes with the label.

        The second is for texts that are nearly all of one class, as a trained policy's are: there the majority share
        is hard to beat, and what counts is whether the model tells the classes apart.
        """
        return self.accuracy.low > self.majority_share.share or self.association_p < ASSOCIATION_P

    @property
    def association_p(self) -> float:
        """One-sided p of Fisher's exact test that the log-odds' sign goes with the label, over non-neutral texts."""
        from scipy.stats import fisher_exact  # a quarter of a second that reading a reward model need not wait for

        judged = self.said != 0.5
        said, meant = self.log_odds[judged] > 0, self.said[judged] > 0.5
        table = [[int((said & meant).sum()), int((said & ~meant).sum())],
                 [int((~said & meant).sum()), int((~said & ~meant).sum())]]  # fmt: skip
        return float(fisher_exact(table, alternative="greater").pvalue)

    def rescaled(self, temperature: float) -> HeldOut:
        """The same with log-odds divided by `temperature`."""
        return HeldOut(self.log_odds / temperature, self.targets, self.said)

    def report(self) -> dict[str, Any]:
        """Accuracy with interval, majority share, cross-entropy, reliability table and calibration error, for JSON."""
        probabilities = sigmoid(self.log_odds)
        table = reliability_table(probabilities, self.targets)
        return {
            "texts": len(self.targets),
            "accuracy": self.accuracy._asdict(),
            "majority_share": self.majority_share.share,
            "cross_entropy_nats": cross_entropy(self.log_odds, self.targets),
            "expected_calibration_error": expected_calibration_error(table),
            "reliability": [row._asdict() for row in table],
        }


def join(parts: Sequence[HeldOut]) -> HeldOut:
    """The held-out texts of several folds together."""
    return HeldOut(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("log_odds", "targets", "said")))


def cross_entropy(log_odds: NDArray[np.float64], targets: NDArray[np.float64]) -> float:
    """Mean of -t log σ(d) - (1 - t) log σ(-d) = log(1 + e^d) - t d, in nats a text."""
    return float(np.mean(np.logaddexp(0, log_odds) - targets * log_odds))


def best_temperature(held_out: HeldOut) -> float:
    """The temperature whose rescaled log-odds have the least held-out cross-entropy, within 1/20 to 20.

    Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2.
    """
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda log_t: cross_entropy(held_out.log_odds / math.exp(log_t), held_out.targets),
        bounds=(-math.log(_LARGEST_TEMPERATURE), math.log(_LARGEST_TEMPERATURE)),
        method="bounded",
    )
    return math.exp(float(found.x))
