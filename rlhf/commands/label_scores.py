"""Scores for `rlhf label push --select`: P(positive) of each sample by each model of an ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from labeling.folder import Task
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_jsonl


def p_positive(files: Sequence[str], models: Sequence[str], tasks: Sequence[Task]) -> list[list[float]]:
    """P(positive) of each task by each file of scores and each reward model (members × tasks).

    Of a comparison it is the probability that the first text is the better one. Raises InputError for a missing uid
    or field, or a directory that is no token reward model.
    """
    members = [_of_file(Path(name), [task.uid for task in tasks]) for name in _names(files)]
    return members + [_of_model(name, tasks) for name in _names(models)]


def _names(words: Sequence[str]) -> list[str]:
    return [name for word in words for name in word.split(",") if name]


def _of_model(directory: str, tasks: Sequence[Task]) -> list[float]:
    """P(positive) = σ(log-odds); of a comparison P(first is better) = σ(log-odds of first − log-odds of second)."""
    from rewards.token_model import TokenRewardModel

    reward = TokenRewardModel.from_pretrained(directory)
    prompts = [task.prompt for task in tasks]
    odds = reward.log_odds(prompts, [task.text for task in tasks])
    if any(task.second is not None for task in tasks):
        odds = odds - reward.log_odds(prompts, [task.second or "" for task in tasks])
    probabilities = odds.sigmoid() if reward.target == "positive" else (-odds).sigmoid()
    return [float(p) for p in probabilities.tolist()]


def _of_file(path: Path, uids: Sequence[str]) -> list[float]:
    scores: dict[str, float] = {}
    for number, row in enumerate(read_jsonl(path), start=1):
        value = row.get("p_positive")
        if not isinstance(row.get("uid"), str) or not isinstance(value, (int, float)) or isinstance(value, bool):
            raise InputError(
                f"{path}, record {number}",
                got=f"uid {row.get('uid')!r}, p_positive {value!r}",
                expected="a uid and a probability",
                fix="mend that row",
            )
        scores[row["uid"]] = float(value)
    missing = [uid for uid in uids if uid not in scores]
    if missing:
        raise InputError(
            str(path),
            got=f"no score for {len(missing)} samples, the first {missing[0]}",
            expected="a score for every sample",
            fix="score the same samples file",
        )
    return [scores[uid] for uid in uids]
