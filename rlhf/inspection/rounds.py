"""Rounds of labelling compared at one KL: what relabelling the policy's own samples brought over the frozen reward.

Every round's PPO starts at the same original with the same prompts and random numbers, so sample i of one round's
ladder pairs with sample i of another's, and differences are taken sample by sample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rlhf.foundation.errors import InputError
from rlhf.foundation.terminal import plus_minus
from rlhf.inspection.estimates import Estimate, Floats, mean_estimate
from rlhf.inspection.evaluation import Evaluation, course
from rlhf.inspection.scoring import PROXY

Z95 = 1.959964  # 97.5 % point of the normal distribution


@dataclass(frozen=True, slots=True)
class RoundResult:
    """One round at the common KL: rewards with standard errors; `gain` is gold minus the first round's, by sample."""

    name: str
    n_labels: int
    last_kl: float  # nats per completion, of the round's last rung
    proxy: Estimate  # the round's own reward
    frozen: Estimate  # the first round's reward on this round's samples
    gold: Estimate
    gain: Estimate

    def row(self) -> str:
        """One line of the table."""
        gain = f"{self.gain.mean:+.3f} (one text: no interval)" if self.gain.se is None else ""
        if self.gain.se:
            low, high = self.gain.mean - Z95 * self.gain.se, self.gain.mean + Z95 * self.gain.se
            gain = f"{self.gain.mean:+.3f} ({low:+.3f} to {high:+.3f})"
        return (
            f"{self.name:<18}{self.n_labels:>7}{self.last_kl:>9.2f}{_shown(self.proxy)}{_shown(self.frozen)}"
            f"{_shown(self.gold)}   {gain}"
        )


HEAD = (
    f"{'round':<18}{'labels':>7}{'KL, end':>9}{'own reward':>18}{'frozen reward':>18}{'labelled gold':>18}"
    "   gold minus round 1 (95 % interval)"
)


def common_kl(evaluations: Sequence[Evaluation]) -> float:
    """The largest KL that every ladder reaches, nats per completion. Raises InputError when a ladder never moved."""
    reached = min(evaluation.rungs[-1].kl for evaluation in evaluations)
    if not reached > 0:
        raise InputError(
            "rounds", got="a ladder that stayed at the original", expected="rungs above 0 nats", fix="train longer"
        )
    return reached


def at_kl(evaluation: Evaluation, reward: str, kl: float) -> Floats:
    """(N,) scores by sample at `kl` nats: linear in √KL between the neighbouring rungs, NaN where unscored."""
    along = course(evaluation.rungs, evaluation.scores, reward)
    d = math.sqrt(kl)
    above = int(np.clip(np.searchsorted(along.d, d), 1, len(along.d) - 1))
    low, high = along.d[above - 1], along.d[above]
    share = float(np.clip((d - low) / (high - low), 0.0, 1.0)) if high > low else 1.0
    scores: Floats = (1 - share) * along.scores[above - 1] + share * along.scores[above]
    return scores


def compare_rounds(
    evaluations: Mapping[str, Evaluation], n_labels: Mapping[str, int], *, gold: str, frozen: str
) -> list[RoundResult]:
    """Every round at the largest KL that all of them reach; the first one is what the others are compared with.

    `gold` and `frozen` name gold rewards of the evaluations: the annotator's rule, and the first round's reward.
    """
    kl = common_kl(list(evaluations.values()))
    first = at_kl(next(iter(evaluations.values())), gold, kl)
    results = []
    for name, evaluation in evaluations.items():
        scores = {reward: at_kl(evaluation, reward, kl) for reward in (PROXY, frozen, gold)}
        shortest = min(len(first), len(scores[gold]))
        results.append(
            RoundResult(
                name=name,
                n_labels=n_labels[name],
                last_kl=evaluation.rungs[-1].kl,
                proxy=_estimate(scores[PROXY], name),
                frozen=_estimate(scores[frozen], name),
                gold=_estimate(scores[gold], name),
                gain=_estimate(scores[gold][:shortest] - first[:shortest], name),
            )
        )
    return results


def table(results: Sequence[RoundResult], kl: float) -> str:
    """The comparison as text."""
    return "\n".join(
        [f"every round at {kl:.2f} nats (± one standard error over samples; one PPO run a round)", HEAD]
        + [result.row() for result in results]
    )


def _estimate(values: Floats, name: str) -> Estimate:
    found = mean_estimate(values.tolist())
    if found is None:
        raise InputError(name, got="no scored sample", expected="scores at the common KL", fix="check the gold reward")
    return found


def _shown(estimate: Estimate) -> str:
    return f"{estimate.mean:>10.3f} {plus_minus(estimate.se, 3)}"
