"""Answers to pairs of texts, ours and those of TRL's data sets: read, ordered, and dealt into folds."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf.foundation.conversation import Text
from rlhf.foundation.data_sets import Placed, read_rows
from rlhf.foundation.errors import InputError
from rlhf.foundation.layouts import Texts, read_preference_rows

MINIMUM_PAIRS = 20
"""Fewer decided pairs are refused: even a perfect held-out share would prove nothing."""


@dataclass(frozen=True, slots=True)
class Preference:
    """Two completions of one prompt, in an order that says nothing, and P(first is preferred) as raters see it.

    A conversation (a list of messages) may stand for each text. `margin` (score units) is by how much the first should
    win, negative where the second should, 0 where nothing is known. `verdict` is what raters say on balance, 1, 1/2 or
    0 (None: by the side of one half that `target` lies on). A single answer also carries its `uid` and `annotator`.
    """

    prompt: Text
    first: Text
    second: Text
    target: float
    n_answers: int
    margin: float = 0.0
    verdict: float | None = None
    uid: str = ""
    annotator: str = ""

    @property
    def said(self) -> float:
        """1 where the first is preferred on balance, 0 the second, 1/2 where raters are undecided."""
        if self.verdict is not None:
            return self.verdict
        return 0.5 if self.target == 0.5 else float(self.target > 0.5)


def answer(
    prompt: Text, chosen: Text, rejected: Text, *, tie: bool, margin: float = 0.0, uid: str = "", annotator: str = ""
) -> Preference:
    """One answer; `margin` is by how much the chosen text should win, and nothing for a tie."""
    first, second = _in_order(chosen, rejected)
    won = 0.5 if tie else float(first == chosen)
    signed = 0.0 if tie else margin if won else -margin
    return Preference(prompt, first, second, won, 1, signed, None, uid, annotator)


def read_preferences(path: Path, texts: Texts = "auto") -> list[Preference]:
    """Single answers from a JSON file in any of the layouts of rlhf/foundation/layouts.py, ours and TRL's among them.

    Raises InputError naming the row that is in none.
    """
    return answers_of(read_rows(path), texts)


def answers_of(rows: Sequence[Placed], texts: Texts = "auto") -> list[Preference]:
    """Single answers from the rows of a preference data set in any layout."""
    return [
        answer(r.prompt, r.chosen, r.rejected, tie=r.tie, margin=r.margin, uid=r.uid, annotator=r.annotator)
        for r in read_preference_rows(rows, texts)
    ]


def _in_order(one: Any, two: Any) -> tuple[Any, Any]:
    """The two in an order that depends on their content and goes with nothing that a model could read."""
    return (one, two) if _digest(one) <= _digest(two) else (two, one)


def _digest(text: object) -> bytes:
    return hashlib.blake2b(repr(text).encode("utf-8", "surrogatepass"), digest_size=8).digest()


def require_comparisons(preferences: Sequence[Preference], place: str) -> None:
    """Raise InputError unless there are at least MINIMUM_PAIRS with a preference."""
    decided = sum(p.said != 0.5 for p in preferences)
    if decided < MINIMUM_PAIRS:
        raise InputError(
            place,
            got=f"{decided} pairs with a preference and {len(preferences) - decided} ties",
            expected=f"at least {MINIMUM_PAIRS} pairs with a preference, better some hundreds",
            fix="compare more",
        )


def fold_of_preference(preferences: Sequence[Preference], n_folds: int, seed: int) -> list[int]:
    """Which fold each pair falls into; pairs that share a text, or a prompt where prompts vary, stay together."""
    several_prompts = len({repr(p.prompt) for p in preferences}) >= 2 * n_folds
    parent: dict[object, object] = {}

    def root(node: object) -> object:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for p in preferences:
        nodes: list[object] = [("text", repr((p.prompt, text))) for text in (p.first, p.second)]
        if several_prompts:
            nodes.append(("prompt", repr(p.prompt)))
        for node in nodes[1:]:
            parent[root(node)] = root(nodes[0])
    groups: dict[object, list[int]] = {}
    for i, p in enumerate(preferences):
        groups.setdefault(root(("text", repr((p.prompt, p.first)))), []).append(i)
    order = list(groups.values())
    random.Random(f"folds {seed}").shuffle(order)
    order.sort(key=len, reverse=True)
    folds, sizes = [0] * len(preferences), [0] * n_folds
    for group in order:  # the largest first, each into the smallest fold
        fold = sizes.index(min(sizes))
        sizes[fold] += len(group)
        for i in group:
            folds[i] = fold
    return folds
