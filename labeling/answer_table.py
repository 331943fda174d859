"""Answers of an import, a million at once: what decides between two of them stands in arrays, all else is packed.

An answer takes 41 bytes and its own text in UTF-8; as Python objects (an annotation, its uid, its times, the text) it
would take 500 and more.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from labeling.annotations import UNTIMED
from rlhf.foundation.files import json_bytes
from rlhf.foundation.repeats import grouped

BIGGEST = 2**63 - 1
Places = npt.NDArray[np.int64]


class Outcome(NamedTuple):
    """What became of an answer: what it says, or (`counts` false) why it says nothing."""

    counts: bool
    said: str


class AnswerTable:
    """Answers in the order of a file; a row's place is its number, from 0."""

    def __init__(self) -> None:
        self.people: array[int] = array("q")
        self._keys, self._packed = bytearray(), bytearray()
        self._instants, self._numbers = array("q"), array("q")
        self._ends = array("Q", [0])
        self._outcomes, self._references = array("H"), bytearray()
        self._codes: dict[Outcome, int] = {}

    def __len__(self) -> int:
        return len(self.people)

    def add(
        self, uid: str, person: int, *, at: int, number: int, outcome: Outcome, reference: bool, content: Sequence[Any]
    ) -> None:
        """An answer of the person of this number to the text of `uid` (32 hexadecimal digits).

        `at` is when, in microseconds (0: unknown); `number` tells apart two of one instant; `content` is JSON.
        """
        self._keys += bytes.fromhex(uid)
        self.people.append(person)
        self._instants.append(at)
        self._numbers.append(max(-BIGGEST, min(BIGGEST, number)))
        self._outcomes.append(self._codes.setdefault(outcome, len(self._codes)))
        self._references.append(reference)
        self._packed += json_bytes(content)
        self._ends.append(len(self._packed))

    def uid(self, place: int) -> str:
        """The uid that an answer was given to."""
        return self._keys[16 * place : 16 * place + 16].hex()

    def age(self, place: int) -> tuple[int, int]:
        """When, and the number that decides between two of one instant."""
        return self._instants[place], self._numbers[place]

    def outcome(self, place: int) -> Outcome:
        """What became of an answer."""
        return list(self._codes)[self._outcomes[place]]

    def content(self, place: int) -> list[Any]:
        """What `add` was given."""
        return list(
            json.loads(self._packed[self._ends[place] : self._ends[place + 1]].decode("utf-8", "surrogatepass"))
        )

    def latest(self, names: Sequence[str], *, reference: bool) -> tuple[array[int], Counter[str]]:
        """Of each person's answers to one text the latest that says something, sorted by uid and name; and counts.

        Those that were superseded or say nothing are counted. `names` are the people's; the rules are those of
        `annotations.latest`.
        """
        mine = np.flatnonzero(np.frombuffer(self._references, np.uint8) == reference)
        counts: Counter[str] = Counter()
        if not len(mine):
            return array("q"), counts
        ranks = {name: rank for rank, name in enumerate(sorted(set(names)))}
        by = np.array([ranks[name] for name in names])[np.frombuffer(self.people, np.int64)[mine]]
        keys = np.frombuffer(self._keys, ">u8").reshape(-1, 2)[mine].astype(np.uint64)
        at = np.frombuffer(self._instants, np.int64)[mine]
        order = np.lexsort((np.frombuffer(self._numbers, np.int64)[mine], at, by, keys[:, 1], keys[:, 0]))
        last = grouped(keys[order, 0], keys[order, 1], by[order])
        counts["superseded"] = len(mine) - len(last)
        # Every answer without a time was decided by order, but for one where nobody's had a time.
        untimed, sizes = (at[order] == 0).astype(np.int64), np.diff(last, prepend=-1)
        nobodys = np.add.reduceat(untimed, last - sizes + 1) == sizes
        counts[UNTIMED] = int(untimed.sum() - nobodys.sum())
        kept = mine[order[last]]
        return array("q", self._that_count(kept, counts).tobytes()), counts

    def _that_count(self, kept: Places, counts: Counter[str]) -> Places:
        outcomes = np.frombuffer(self._outcomes, np.uint16)[kept]
        says = np.zeros(len(kept), bool)
        for outcome, code in self._codes.items():
            same = outcomes == code
            if outcome.counts:
                says |= same
            else:
                counts[outcome.said] += int(same.sum())
        saying: Places = kept[says]
        return saying
