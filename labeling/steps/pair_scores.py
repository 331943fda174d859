"""Scores for `--select` of comparisons: P(the first text is better) of each pair by each model of an ensemble.

Where a model gives each text a score r, P = σ(r₁ - r₂), as Bradley and Terry have it (1952, "Rank Analysis of
Incomplete Block Designs"). The unit of r is the model's own for preference models (whose loss this is) and for the
log-odds of token models and files of p_positive. A reward of another unit is divided by the standard deviation of its
scores over the texts at hand: then a difference is small or large relative to how far texts differ at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labeling.folder import Task
from labeling.steps.scores import Scorer, TokenReward, named_or_held, names_in
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import iter_jsonl
from rlhf.foundation.progress import reading

Floats = npt.NDArray[np.float64]
SCORES = ("p_positive", "score")


def p_first(
    files: Sequence[str],
    models: Sequence[str | Scorer],
    tasks: Sequence[Task],
    uids: Mapping[str, tuple[str, str]],
    *,
    quiet: bool = True,
) -> list[list[float]]:
    """P(first is better) of each task by each file of scores and each reward (members × tasks).

    `uids` names the two samples of each task. A file has `uid` and `p_positive` of every pair, or of every sample, or
    `uid` and `score` of every sample. Raises InputError for a missing uid or field, or what is no reward.
    """
    members = [_of_file(Path(name), tasks, uids, quiet) for name in names_in(files)]
    for model in named_or_held(models):
        members += _of_model(model, tasks)
    return [[float(p) for p in member] for member in members]


def probabilities(first: Floats, second: Floats, *, relative: bool) -> Floats:
    """σ(first - second), (N,) each; with `relative` in units of the standard deviation of all of them together."""
    difference = first - second
    if relative:
        spread = float(np.concatenate((first, second)).std())
        difference = difference / spread if spread > 0.0 else np.zeros_like(difference)
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(difference, -500.0, 500.0))), np.float64)


def _of_model(model: str | Scorer, tasks: Sequence[Task]) -> list[Floats]:
    """One member a model; an ensemble's models are members each."""
    from rewards.attribution import score
    from rewards.ensemble import RewardEnsemble
    from rewards.loading import load_reward
    from rewards.preference_model import PreferenceRewardModel

    reward: Any = load_reward(model)
    prompts = [task.prompt for task in tasks]
    sides = [[task.text for task in tasks], [task.second or "" for task in tasks]]
    if isinstance(reward, RewardEnsemble):
        return [one for member in reward.members for one in _of_model(member, tasks)]
    if isinstance(reward, TokenReward):
        sign = 1.0 if reward.target == "positive" else -1.0
        first, second = (sign * np.asarray(reward.log_odds(prompts, side).tolist()) for side in sides)
        return [probabilities(first, second, relative=False)]
    first, second = (np.asarray(score(reward, prompts, side), np.float64) for side in sides)
    return [probabilities(first, second, relative=not isinstance(reward, PreferenceRewardModel))]


def _of_file(path: Path, tasks: Sequence[Task], uids: Mapping[str, tuple[str, str]], quiet: bool) -> Floats:
    wanted = {task.uid for task in tasks} | {uid for task in tasks for uid in uids.get(task.uid, ())}
    found: dict[str, tuple[str, float]] = {}
    with reading(path, quiet=quiet) as advance:
        for number, line in enumerate(iter_jsonl(path, advance), start=1):
            uid, name, value = _row(f"{path}, record {number}", line.row)
            if uid in wanted:
                found[uid] = name, value
    if all(found.get(task.uid, ("",))[0] == "p_positive" for task in tasks):
        return np.array([found[task.uid][1] for task in tasks])
    both = [uids.get(task.uid, (task.uid, task.uid)) for task in tasks]
    missing = [uid for pair in both for uid in pair if uid not in found]
    names = {found[uid][0] for pair in both for uid in pair if uid in found}
    if missing or len(names) > 1:
        got = (
            f"no score for {len(missing)} samples, the first {missing[0]}" if missing else "p_positive and score mixed"
        )
        raise InputError(
            str(path),
            got=got,
            expected="one kind of score for every pair, or every sample",
            fix="score the same samples",
        )
    relative = names == {"score"}
    own = np.array([[found[uid][1] if relative else _log_odds(found[uid][1]) for uid in pair] for pair in both])
    return probabilities(own[:, 0], own[:, 1], relative=relative)


def _row(place: str, row: Mapping[str, Any]) -> tuple[str, str, float]:
    uid, names = row.get("uid"), [name for name in SCORES if row.get(name) is not None]
    value = row[names[0]] if names else None
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not isinstance(uid, str) or not number or (names[0] == "p_positive" and not 0.0 <= float(value or 0) <= 1.0):
        raise InputError(
            place,
            got=f"uid {uid!r}, {names[0] if names else 'p_positive'} {value!r}",
            expected="a uid and p_positive (a probability) or score (a number)",
            fix="mend that row",
        )
    return uid, names[0], float(value or 0)


def _log_odds(p: float) -> float:
    """ln p - ln(1 - p), nats, at most about 700 either way."""
    return math.log(max(p, 1e-300)) - math.log(max(1.0 - p, 1e-300))
