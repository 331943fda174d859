"""An empty completion and a short one: what every reward is tried on before the long work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rlhf.foundation.conversation import Text

Row = Mapping[str, Any]
TEXTS = ("", " The end.")
_IDS = ([0], [0, 1, 2])  # of no tokenizer: a completion has as many as it has tokens, its end included


class Specimens(NamedTuple):
    """As reward functions are given completions: N prompts, completions and their ids, columns of N."""

    prompts: list[Text]
    completions: list[str]
    completion_ids: list[list[int]]
    columns: dict[str, list[Any]]


def one_of_each_kind(train: Sequence[Row], evaluation: Sequence[Row]) -> list[Row]:
    """The first training and the first evaluation prompt, of texts and of conversations where there are both."""
    rows: dict[tuple[int, type], Row] = {}
    for which, given in enumerate((train, evaluation)):
        for row in given:
            rows.setdefault((which, type(row["prompt"])), row)
    return list(rows.values())


def specimens(train: Sequence[Row], evaluation: Sequence[Row]) -> Specimens:
    """Both texts for a prompt of each kind, with every column that any row has."""
    kinds = one_of_each_kind(train, evaluation)
    rows = [row for row in kinds for _ in TEXTS]
    names = dict.fromkeys(key for row in (*train, *evaluation) for key in row if key != "prompt")
    columns = {name: [row.get(name) for row in rows] for name in names}
    ids = [list(one) for _ in kinds for one in _IDS]
    return Specimens([row["prompt"] for row in rows], [*TEXTS] * len(kinds), ids, columns)
