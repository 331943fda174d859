"""Rewards of a rung's samples: a failure on one sample is data, a failure on all of them the user's mistake."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rewards.rules import RewardFunc
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import Sample

PROXY, STORED_GOLD = "proxy", "gold"
Scores = dict[str, list[float | None]]


def score_rung(rows: Sequence[Sample], functions: Mapping[str, RewardFunc]) -> Scores:
    """Proxy and every other reward of one rung's samples, None where there is no score."""
    scores: Scores = {PROXY: [row.reward for row in rows]}
    if any(row.gold is not None for row in rows):
        scores[STORED_GOLD] = [row.gold for row in rows]
    for name, function in functions.items():
        scores[name] = score_one(name, function, rows)
    return scores


def score_one(name: str, function: RewardFunc, rows: Sequence[Sample]) -> list[float | None]:
    """A reward of every sample; where the batch fails, samples are scored one by one and failures are None.

    Raises InputError when it fails on every sample or returns the wrong number of values.
    """
    try:
        return _call(name, function, rows)
    except InputError:
        raise
    except (Exception, SystemExit) as failure:
        scores: list[float | None] = []
        for row in rows:
            try:
                scores += _call(name, function, [row])
            except InputError:
                raise
            except (Exception, SystemExit):
                scores.append(None)
        if any(score is not None for score in scores):
            return scores
        raise InputError(
            f"reward '{name}'",
            got=f"{type(failure).__name__}: {failure}",
            expected="a score for at least one sample",
            fix="run the function on one text and mend it",
        ) from failure


def _call(name: str, function: RewardFunc, rows: Sequence[Sample]) -> list[float | None]:
    values = function(
        prompts=[row.prompt for row in rows],
        completions=[row.completion for row in rows],
        completion_ids=None,  # stored samples are text; a function that needs ids fails and says so
    )
    if len(values) != len(rows):
        raise InputError(
            f"reward '{name}'",
            got=f"{len(values)} values for {len(rows)} completions",
            expected="one float or None a completion",
            fix="mend the function",
        )
    return [float(value) if value is not None and math.isfinite(value) else None for value in values]
