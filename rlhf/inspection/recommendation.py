"""Which rung to keep: a plain recommendation with its reasons and errors, saying whether it used gold."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rlhf.foundation.terminal import plus_minus
from rlhf.inspection.estimates import Floats, score_matrix
from rlhf.inspection.evaluation import Evaluation, RungEvaluation
from rlhf.inspection.scoring import PROXY

DIVERSITY_KEPT = 0.9  # of the original's distinct-2
GAIN_WANTED = 0.8  # of the proxy's whole gain along the ladder


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A rung and why; `used_gold` tells whether a reward the trainer never saw took part."""

    rung: str
    used_gold: bool
    reasons: list[str]

    def text(self) -> str:
        """The recommendation in one paragraph."""
        basis = "by gold" if self.used_gold else "without gold, so by proxy and diversity alone"
        return f"Keep {self.rung} ({basis}): {'; '.join(self.reasons)}."


def recommend(evaluation: Evaluation) -> Recommendation | None:
    """A rung to keep; None with fewer than two rungs.

    With a gold: the lowest KL whose mean gold is within one standard error of the highest rung's, by paired
    differences (the one-standard-error rule of Breiman et al. 1984, section 3.4.3). The first gold that varies decides.
    Without one: the lowest KL with 80 % of the proxy's gain among rungs that kept 90 % of the original's distinct-2.
    """
    if len(evaluation.rungs) < 2:
        return None
    golds = evaluation.telling_golds
    return _by_gold(evaluation, golds[0]) if golds else _by_proxy(evaluation)


def _by_gold(evaluation: Evaluation, gold: str) -> Recommendation:
    rungs = [rung for rung in evaluation.rungs if rung.reward(gold) is not None]
    scores = score_matrix([evaluation.scores[rung.name][gold] for rung in rungs])
    best = int(np.argmax(np.nanmean(scores, axis=1)))
    means, errors = paired_losses(scores, best)
    chosen = int(np.argmax(means <= errors))
    rung, mean = rungs[chosen], rungs[chosen].reward(gold)
    reasons = [f"{gold} {mean.text(3)}" if mean else gold, _kl(rung)]
    if chosen != best:
        reasons.append(
            f"the highest rung, {rungs[best].name}, is ahead by {means[chosen]:.3f} ± {errors[chosen]:.3f} only "
            f"(paired), for {rungs[best].kl - rung.kl:.1f} nats more"
        )
    reasons += _diversity(evaluation.rungs[0], rung)
    reasons.append("chosen on these samples, so confirm it on others: `rlhf evaluate --draw 2`, or a blind rating")
    return Recommendation(rung.name, True, reasons)


def paired_losses(scores: Floats, best: int) -> tuple[Floats, Floats]:
    """(R,) means of scores (R, N) of rung `best` less those of each rung, and their standard errors.

    Differences are paired by prompt and seed; rungs with fewer than two pairs (labels of few samples) are compared as
    if independent.
    """
    lost = scores[best] - scores
    count = np.isfinite(lost).sum(axis=1)
    means, errors = np.zeros(len(scores)), np.zeros(len(scores))
    for rung, pairs in enumerate(count):
        if pairs >= 2:
            means[rung] = np.nanmean(lost[rung])
            errors[rung] = np.nanstd(lost[rung], ddof=1) / math.sqrt(pairs)
        else:
            means[rung] = np.nanmean(scores[best]) - np.nanmean(scores[rung])
            errors[rung] = math.hypot(
                *(np.nanstd(scores[i]) / math.sqrt(np.isfinite(scores[i]).sum()) for i in (best, rung))
            )
    return means, errors


def _by_proxy(evaluation: Evaluation) -> Recommendation:
    original, rungs = evaluation.rungs[0], evaluation.rungs
    kept = [r for r in rungs if (r.distinct_2 or 0.0) >= DIVERSITY_KEPT * (original.distinct_2 or 0.0)]
    means = {r.name: r.proxy.mean for r in rungs if r.proxy}
    start, gain = means.get(original.name, 0.0), max(means.values(), default=0.0) - means.get(original.name, 0.0)
    enough = [r for r in kept if means.get(r.name, -math.inf) >= start + GAIN_WANTED * gain]
    rung = enough[0] if enough else kept[-1]
    reached = (means.get(rung.name, start) - start) / gain if gain else 0.0
    reasons = [
        f"{PROXY} {rung.proxy.text(3)}, {reached:.0%} of its whole gain" if rung.proxy else PROXY,
        *([] if enough else [f"the last rung that kept {DIVERSITY_KEPT:.0%} of the original's distinct-2"]),
        _kl(rung),
        *_diversity(original, rung),
        "a proxy always asks for more KL: rate samples blind before you trust this",
    ]
    return Recommendation(rung.name, False, reasons)


def _kl(rung: RungEvaluation) -> str:
    return f"{rung.kl:.2f} {plus_minus(rung.kl_se, 2)} nats"


def _diversity(original: RungEvaluation, rung: RungEvaluation) -> list[str]:
    if original.distinct_2 is None or rung.distinct_2 is None:
        return []
    return [f"distinct-2 {rung.distinct_2:.3f} against {original.distinct_2:.3f} at the start"]
