"""How often a rung's sample is better than the original's for the same prompt and the same random numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rlhf.foundation.proportion import Proportion, wilson
from rlhf.inspection.evaluation import Evaluation


@dataclass(frozen=True, slots=True)
class WinRate:
    """Share of pairs that the rung wins, a tie counted as a half, with its 95 % Wilson interval."""

    rung: str
    kl: float  # nats per completion
    rate: Proportion
    ties: int

    def text(self) -> str:
        """One line for the terminal."""
        r = self.rate
        return (
            f"{self.rung:<9} KL {self.kl:5.2f} nats  wins {r.share:6.1%} ({r.low:.1%} to {r.high:.1%}, "
            f"n = {r.n}, {self.ties} ties)"
        )


def win_rates(evaluation: Evaluation, reward: str) -> list[WinRate]:
    """Every rung against the original by `reward`; pairs in which one is unscored are left out."""
    original = evaluation.scores[evaluation.rungs[0].name][reward]
    return [
        win_rate(rung.name, rung.kl, evaluation.scores[rung.name][reward], original) for rung in evaluation.rungs[1:]
    ]


def win_rate(rung: str, kl: float, scores: Sequence[float | None], original: Sequence[float | None]) -> WinRate:
    """One rung's win rate; sample i is paired with the original's sample i."""
    pairs = [
        (a, b)
        for a, b in zip(scores, original, strict=False)
        if a is not None and b is not None and math.isfinite(a - b)
    ]
    wins, ties = sum(a > b for a, b in pairs), sum(a == b for a, b in pairs)
    return WinRate(rung, kl, wilson(wins + ties / 2, len(pairs)), ties)
