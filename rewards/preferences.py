"""Comparisons become soft preferences: the answers to one pair are pooled, ties count one half; TRL's data sets too."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf.foundation.conversation import Text
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_jsonl
from rlhf.foundation.records import Comparison


@dataclass(frozen=True, slots=True)
class Preference:
    """Two completions of one prompt, in an order that says nothing, and P(first is preferred) as raters see it.

    A conversation (a list of messages) may stand for each text. `margin` (score units) is by how much the preferred
    one should win, 0 where nothing is known.
    """

    prompt: Text
    first: Text
    second: Text
    target: float
    n_answers: int
    margin: float = 0.0


def pool_comparisons(comparisons: Sequence[Comparison]) -> list[Preference]:
    """One soft preference a pair, whichever side its texts stood on: target = share of answers, a tie one half."""
    answers: dict[tuple[str, str, str], list[float]] = {}
    for row in comparisons:
        first, second = _in_order(row.chosen, row.rejected)
        value = 0.5 if row.tie else float(first == row.chosen)
        answers.setdefault((row.prompt, first, second), []).append(value)
    return [
        Preference(prompt, first, second, sum(values) / len(values), len(values))
        for (prompt, first, second), values in answers.items()
        if first != second
    ]


def read_preferences(path: Path) -> list[Preference]:
    """Preferences from JSON lines: `comparisons.jsonl`, or TRL's columns (prompt, chosen, rejected, margin).

    TRL's `prompt` may be absent: then both texts begin with it (as in hh-rlhf). Plain text and conversations are
    read. Raises InputError naming the row that is neither.
    """
    preferences: dict[str, list[Preference]] = {}
    for number, row in enumerate(read_jsonl(path), start=1):
        found = _preference(row, f"{path}, record {number}")
        if found is not None:
            preferences.setdefault(repr((found.prompt, found.first, found.second)), []).append(found)
    return [_together(group) for group in preferences.values()]


def _together(group: list[Preference]) -> Preference:
    n = sum(p.n_answers for p in group)
    target = sum(p.target * p.n_answers for p in group) / n
    return Preference(group[0].prompt, group[0].first, group[0].second, target, n, group[0].margin)


def _preference(row: Mapping[str, Any], place: str) -> Preference | None:
    prompt, chosen, rejected = row.get("prompt", ""), row.get("chosen"), row.get("rejected")
    for name, value in (("prompt", prompt), ("chosen", chosen), ("rejected", rejected)):
        if not (isinstance(value, str) or _is_conversation(value)):
            raise InputError(
                f"{place}, field '{name}'",
                got="nothing" if value is None else f"a {type(value).__name__}",
                expected="a text or a list of {role, content} messages",
                fix="mend that row",
            )
    if isinstance(chosen, str) != isinstance(rejected, str) or (
        prompt and isinstance(prompt, str) != isinstance(chosen, str)
    ):
        raise InputError(place, got="plain text beside a conversation", expected="one of them", fix="mend that row")
    margin = row.get("margin", 0.0)
    if isinstance(margin, bool) or not isinstance(margin, (int, float)):
        raise InputError(f"{place}, field 'margin'", got=repr(margin), expected="a number", fix="mend that row")
    assert chosen is not None
    assert rejected is not None
    if chosen == rejected:
        return None  # says nothing
    first, second = _in_order(chosen, rejected)
    target = 0.5 if row.get("tie") else float(first == chosen)
    return Preference(prompt, first, second, target, 1, float(margin))


def _is_conversation(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(m, dict) and {"role", "content"} <= m.keys() for m in value)


def _in_order(one: Any, two: Any) -> tuple[Any, Any]:
    """The two in an order that depends on their content and goes with nothing that a model could read."""
    return (one, two) if _digest(one) <= _digest(two) else (two, one)


def _digest(text: object) -> bytes:
    return hashlib.blake2b(repr(text).encode("utf-8", "surrogatepass"), digest_size=8).digest()


def require_comparisons(preferences: Sequence[Preference], place: str) -> None:
    """Raise InputError unless there are at least 20 pairs with a preference."""
    decided = sum(p.target != 0.5 for p in preferences)
    if decided < 20:
        raise InputError(
            place,
            got=f"{decided} pairs with a preference and {len(preferences) - decided} ties",
            expected="at least 20 pairs with a preference, better some hundreds",
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
