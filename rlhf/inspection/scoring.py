"""Rewards of a rung's samples: a failure on one sample is data, a failure on all of them the user's mistake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rewards.calling import FailedOnSample, RewardFunction, call_reward
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import Sample

PROXY, STORED_GOLD = "proxy", "gold"
Scores = dict[str, list[float | None]]


def score_rung(rows: Sequence[Sample], functions: Mapping[str, RewardFunction]) -> Scores:
    """Proxy and every other reward of one rung's samples, None where there is no score."""
    scores: Scores = {PROXY: [row.reward for row in rows]}
    if any(row.gold is not None for row in rows):
        scores[STORED_GOLD] = [row.gold for row in rows]
    for name, function in functions.items():
        scores[name] = score_one(name, function, rows)
    return scores


def score_one(name: str, function: RewardFunction, rows: Sequence[Sample]) -> list[float | None]:
    """A reward of every sample; where the batch fails, samples are scored one by one and failures are None.

    Stored samples are text: a function that needs token ids or other columns fails and says so. Raises InputError when
    it fails on every sample, or returns something else than one value a sample.
    """
    try:
        return _call(function, rows)
    except FailedOnSample as failure:
        scores: list[float | None] = []
        for row in rows:
            try:
                scores += _call(function, [row])
            except FailedOnSample:
                scores.append(None)
        if any(score is not None for score in scores):
            return scores
        raise InputError(
            f"reward '{name}'",
            got=failure.got,
            expected="a score for at least one sample",
            fix="run the function on one text and mend it",
        ) from failure


def _call(function: RewardFunction, rows: Sequence[Sample]) -> list[float | None]:
    return call_reward(function, [row.prompt for row in rows], [row.completion for row in rows])
