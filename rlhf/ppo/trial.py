"""The rewards tried before the long work, and before a model is loaded: on an empty completion and on a short one."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf.ppo.prompts import Row
from rlhf.ppo.reward_functions import Rewards

SPECIMENS = ("", " The end.")
_IDS = ([0], [0, 1, 2])  # of no tokenizer: a completion has as many as it has tokens, its end included


def one_of_each_kind(train: Sequence[Row], evaluation: Sequence[Row]) -> list[Row]:
    """The first training and the first evaluation prompt, of texts and of conversations where there are both."""
    rows: dict[tuple[int, type], Row] = {}
    for which, given in enumerate((train, evaluation)):
        for row in given:
            rows.setdefault((which, type(row["prompt"])), row)
    return list(rows.values())


def try_rewards(rewards: Rewards, train: Sequence[Row], evaluation: Sequence[Row]) -> None:
    """Score both specimens for a prompt of each kind. Raises InputError as the functions would in training."""
    rows = [row for row in one_of_each_kind(train, evaluation) for _ in SPECIMENS]
    kinds = len(rows) // len(SPECIMENS)
    columns = {key: [row.get(key) for row in rows] for key in (rows[0] if rows else {}) if key != "prompt"}
    rewards.values([row["prompt"] for row in rows], [*SPECIMENS] * kinds, [*_IDS] * kinds, columns)
