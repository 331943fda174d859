"""Scores for `rlhf label push --select`: P(positive) of each sample by each model of an ensemble.

Of comparisons see pair_scores.py.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from labeling.folder import Task
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import iter_jsonl
from rlhf.foundation.progress import reading


@runtime_checkable
class TokenReward(Protocol):
    """A reward model in memory that says how likely a text is of its target class (rewards/token_model.py)."""

    target: str

    def log_odds(self, prompts: Sequence[str], completions: Sequence[str]) -> Any:
        """Log-odds of the target against the other class, a tensor (N,), nats."""


Scorer = TokenReward | Callable[..., Any]


def p_positive(
    files: Sequence[str],
    models: Sequence[str | Scorer],
    tasks: Sequence[Task],
    uids: Sequence[str] | None = None,
    *,
    quiet: bool = True,
) -> list[list[float]]:
    """P(positive) of each task by each file of scores and each reward model (members × tasks).

    `uids` are the tasks', where they are known without making the tasks.
    Raises InputError for a missing uid or field, or what is no token reward model.
    """
    uids = [task.uid for task in tasks] if uids is None and files else uids or ()
    members: list[list[float]] = [_of_file(Path(name), uids, quiet) for name in names_in(files)]
    return members + [_of_model(model, tasks) for model in named_or_held(models)]


def names_in(words: Sequence[str]) -> list[str]:
    """Names that stand in words with commas between them."""
    return [name for word in words for name in word.split(",") if name]


def named_or_held(models: Sequence[str | Scorer]) -> list[str | Scorer]:
    """The models, each name by itself."""
    return [one for model in models for one in (names_in([model]) if isinstance(model, str) else [model])]


def _of_model(model: str | Scorer, tasks: Sequence[Task]) -> list[float]:
    """P(positive) = σ(log-odds)."""
    from rewards.token_model import TokenRewardModel

    reward: Any = TokenRewardModel.from_pretrained(model) if isinstance(model, str) else model
    if not isinstance(reward, TokenReward):
        raise InputError(
            "--reward_model_path",
            got=f"a {type(reward).__name__}, whose scores are no probabilities",
            expected="a token reward model, for judgements",
            fix="give --scores, or compare pairs (--kind comparison)",
        )
    odds = reward.log_odds([task.prompt for task in tasks], [task.text for task in tasks])
    probabilities = odds.sigmoid() if reward.target == "positive" else (-odds).sigmoid()
    return [float(p) for p in probabilities.tolist()]


def _of_file(path: Path, uids: Sequence[str], quiet: bool) -> list[float]:
    places = {uid: place for place, uid in enumerate(uids)}
    scores, scored = array("d", bytes(8 * len(uids))), bytearray(len(uids))
    with reading(path, quiet=quiet) as advance:
        for number, line in enumerate(iter_jsonl(path, advance), start=1):
            _score(path, number, line.row, places, scores, scored)
    if missing := scored.count(False):
        raise InputError(
            str(path),
            got=f"no score for {missing} samples, the first {uids[scored.index(False)]}",
            expected="a score for every sample",
            fix="score the same samples file",
        )
    return scores.tolist()


def _score(
    path: Path, number: int, row: dict[str, Any], places: dict[str, int], scores: array[float], scored: bytearray
) -> None:
    uid, value = row.get("uid"), row.get("p_positive")
    if not isinstance(uid, str) or not isinstance(value, (int, float)) or isinstance(value, bool):
        raise InputError(
            f"{path}, record {number}",
            got=f"uid {uid!r}, p_positive {value!r}",
            expected="a uid and a probability",
            fix="mend that row",
        )
    if uid in places:
        scores[places[uid]], scored[places[uid]] = float(value), True
