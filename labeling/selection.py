"""What to label next: from a large pool, the samples a label teaches most about, and a share drawn at random.

The random share is what held-out accuracy may be measured on: a model looks worse than it is on samples chosen for
its doubt, and better on those chosen for their reward.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from labeling.pairs import fraction
from rlhf.foundation.errors import InputError

Strategy = Literal["random", "uncertainty", "top_reward"]
Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Selected:
    """One chosen sample: why, and its place in the queue (`priority` 0 to 1, lowest first; None: any order)."""

    uid: str
    reason: str
    priority: float | None


def entropy(p: float) -> float:
    """H(p) = −p ln p − (1−p) ln(1−p), in nats; 0 at p = 0 and 1, ln 2 at one half."""
    return -sum(q * math.log(q) for q in (p, 1.0 - p) if q > 0.0)


def uncertainty(members: Sequence[float]) -> float:
    """How little is known about P(positive), in nats, from one model or an ensemble's members.

    One model: H(p). An ensemble: H(mean p) − mean H(p), the information that the label would give about which
    member is right (BALD; Houlsby et al. 2011, https://arxiv.org/abs/1112.5745, eq. 2): members that agree on one
    half have nothing to learn from a text that is simply neutral.
    """
    mean = sum(members) / len(members)
    if len(members) == 1:
        return entropy(mean)
    return max(0.0, entropy(mean) - sum(map(entropy, members)) / len(members))


def select(
    uids: Sequence[str],
    strategy: Strategy,
    count: int,
    *,
    p_positive: Sequence[Sequence[float]] = (),
    random_share: float = 0.2,
    seed: int = 0,
) -> list[Selected]:
    """Choose `count` of the pool: round(random_share × count) at random, the rest by `strategy`.

    `p_positive` holds P(positive) of each sample by each model (models × samples); `random` needs none. The random
    ones get random places among the others, so that they are labelled too when people stop early. Raises
    InputError when the pool is too small, scores are missing or no probabilities, or the share is outside [0, 1].
    """
    _check(uids, strategy, count, p_positive, random_share)
    shuffled = np.argsort(_fractions("select", seed, uids), kind="stable")
    if strategy == "random":
        return [Selected(uids[i], "random", None) for i in shuffled[:count]]
    by_chance, left = np.split(shuffled, [round(random_share * count)])
    score = uncertainty if strategy == "uncertainty" else _mean
    scores = np.fromiter((score([member[i] for member in p_positive]) for i in left), np.float64, len(left))
    best = _best(uids, left, scores, count - len(by_chance))
    name = "uncertainty" if strategy == "uncertainty" else "mean P(positive)"
    chosen = [
        Selected(uids[i], f"{strategy}: {name} {value:.3f}", rank / max(1, len(best)))
        for rank, (value, i) in enumerate(best)
    ]
    chance = [Selected(uids[i], "random", round(fraction("place", seed, uids[i]), 6)) for i in by_chance]
    return sorted([*chosen, *chance], key=lambda one: (one.priority or 0.0, one.uid))


def _fractions(purpose: str, seed: int, uids: Sequence[str]) -> Floats:
    return np.fromiter((fraction(purpose, seed, uid) for uid in uids), np.float64, len(uids))


def _mean(members: Sequence[float]) -> float:
    return sum(members) / len(members)


def _best(uids: Sequence[str], places: Places, scores: Floats, count: int) -> list[tuple[float, int]]:
    """The `count` highest scores with their places, highest first, by uid where they are equal."""
    if not count:
        return []
    least = np.partition(scores, len(scores) - count)[len(scores) - count]
    able = [(float(scores[k]), int(places[k])) for k in np.flatnonzero(scores >= least)]
    return sorted(able, key=lambda one: (-one[0], uids[one[1]]))[:count]


def _check(
    uids: Sequence[str], strategy: Strategy, count: int, p_positive: Sequence[Sequence[float]], random_share: float
) -> None:
    if not 1 <= count <= len(uids):
        raise InputError(
            "--num_tasks", got=count, expected=f"1 to {len(uids)}, the size of the pool", fix="lower it or sample more"
        )
    if not 0.0 <= random_share <= 1.0:
        raise InputError("--random_share", got=random_share, expected="a share between 0 and 1", fix="for example 0.2")
    if strategy != "random" and not p_positive:
        raise InputError(
            f"--select {strategy}",
            got="no scores",
            expected="P(positive) of each sample",
            fix="name --reward_model_path or --scores",
        )
    for member in p_positive:
        bad = [p for p in member if not 0.0 <= p <= 1.0]  # NaN compares false, so it is caught too
        if len(member) != len(uids) or bad:
            raise InputError(
                f"--select {strategy}",
                got=f"{len(member)} scores for {len(uids)} samples" if not bad else f"a score of {bad[0]}",
                expected="one probability between 0 and 1 for each sample",
                fix="score the same samples file",
            )
