"""Answers of an import, a million at once: what decides between two of them stands in arrays, all else is packed.

An answer takes 35 bytes beside its time as it is spelled, a text 24 beside itself in UTF-8. As Python objects (an
annotation, its uid, its times, the text) they would take 500 and more.
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
from rlhf.foundation.records import Origin
from rlhf.foundation.repeats import grouped

BIGGEST = 2**63 - 1
Places = npt.NDArray[np.int64]


class Outcome(NamedTuple):
    """What became of an answer: what it says, or (`counts` false) why it says nothing; and where it comes from."""

    counts: bool
    said: str
    origin: Origin = "manual"


class Packed:
    """Lists of JSON one behind another as UTF-8, each read when it is asked for."""

    def __init__(self) -> None:
        self._bytes, self._ends = bytearray(), array("Q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, place: int) -> list[Any]:
        return list(json.loads(self._bytes[self._ends[place] : self._ends[place + 1]]))

    def add(self, row: Sequence[Any]) -> None:
        """One more list."""
        self._bytes += json_bytes(row)
        self._ends.append(len(self._bytes))


class AnswerTable:
    """Answers in the order of a file; a row's place is its number, from 0."""

    def __init__(self) -> None:
        self.people: array[int] = array("i")
        self._instants, self._numbers = array("q"), array("q")
        self._outcomes, self._references = array("H"), bytearray()
        self._codes: dict[Outcome, int] = {}
        self._rest = Packed()
        self._about: array[int] = array("I")  # the text, by its place among the texts
        self._uids, self._texts = bytearray(), Packed()

    def __len__(self) -> int:
        return len(self.people)

    def add(
        self,
        uid: str,
        texts: Sequence[str],
        person: int,
        *,
        at: int,
        number: int,
        outcome: Outcome,
        reference: bool,
        rest: Sequence[Any],
    ) -> None:
        """An answer of the person of this number to the texts of `uid` (32 hexadecimal digits).

        `at` is when, in microseconds (0: unknown); `number` tells apart two of one instant; `rest` is JSON.
        """
        key = bytes.fromhex(uid)
        if self._uids[-16:] != key:  # raters of one text stand together in most files
            self._uids += key
            self._texts.add(texts)
        self._about.append(len(self._texts) - 1)
        self.people.append(person)
        self._instants.append(at)
        self._numbers.append(max(-BIGGEST, min(BIGGEST, number)))
        self._outcomes.append(self._codes.setdefault(outcome, len(self._codes)))
        self._references.append(reference)
        self._rest.add(rest)

    def uid(self, place: int) -> str:
        """The uid that an answer was given to."""
        about = self._about[place]
        return self._uids[16 * about : 16 * about + 16].hex()

    def age(self, place: int) -> tuple[int, int]:
        """When, and the number that decides between two of one instant."""
        return self._instants[place], self._numbers[place]

    def outcome(self, place: int) -> Outcome:
        """What became of an answer."""
        return list(self._codes)[self._outcomes[place]]

    def content(self, place: int) -> tuple[list[Any], list[Any]]:
        """The texts and the rest that `add` was given."""
        return self._texts[self._about[place]], self._rest[place]

    def latest(self, names: Sequence[str], *, reference: bool) -> tuple[array[int], Counter[str]]:
        """Of each person's answers to one text the latest that says something, sorted by uid and name; and counts.

        Those that were superseded or say nothing are counted. `names` are the people's; the rules are those of
        `annotations.latest`.
        """
        which = np.frombuffer(self._references, np.uint8) == reference
        counts: Counter[str] = Counter()
        if not which.any():
            return array("q"), counts
        mine = slice(None) if which.all() else which  # a slice copies nothing
        ranks = {name: rank for rank, name in enumerate(sorted(set(names)))}
        by = np.array([ranks[name] for name in names], np.int32)[np.frombuffer(self.people, np.int32)[mine]]
        about = self._ranks()[np.frombuffer(self._about, np.uint32)[mine]]
        at = np.frombuffer(self._instants, np.int64)[mine]
        order = np.lexsort((np.frombuffer(self._numbers, np.int64)[mine], at, by, about))
        last = grouped(about[order], by[order])
        counts["superseded"] = len(order) - len(last)
        # Every answer without a time was decided by order, but for one where nobody's had a time.
        untimed, sizes = (at[order] == 0).astype(np.int64), np.diff(last, prepend=-1)
        nobodys = np.add.reduceat(untimed, last - sizes + 1) == sizes
        counts[UNTIMED] = int(untimed.sum() - nobodys.sum())
        kept: Places = np.flatnonzero(which)[order[last]]
        return array("q", self._that_count(kept, counts).tobytes()), counts

    def _ranks(self) -> Places:
        """The rank of each text's uid among all; equal uids have one."""
        halves = np.frombuffer(self._uids, ">u8").reshape(-1, 2)
        order = np.lexsort((halves[:, 1], halves[:, 0]))
        ranks = np.empty(len(order), np.int64)
        new = np.any(halves[order[1:]] != halves[order[:-1]], axis=1)
        ranks[order] = np.concatenate(([0], np.cumsum(new)))
        return ranks

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
