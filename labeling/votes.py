"""Labels as columns: what agreement and pooling compute on, 22 bytes each.

Shapes: V votes, U texts, R raters, C = 3 labels in the order of `LABELS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from rlhf.foundation.records import LABELS, ORIGINS, Label
from rlhf.foundation.repeats import grouped

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Value = TypeVar("Value", covariant=True)
CLASSES = len(LABELS)


@dataclass(frozen=True, slots=True)
class Votes:
    """`text`, `rater`, `said` and `origin` (V,) are places in `uids`, `raters`, LABELS and ORIGINS.

    `seconds` (V,) is the time a vote took, NaN where it is unknown. A rater may have several votes on a text.
    """

    uids: Sequence[str]
    raters: Sequence[str]
    text: Ints
    rater: npt.NDArray[np.int32]
    said: npt.NDArray[np.int8]
    seconds: Floats
    origin: npt.NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.text)

    def only(self, which: npt.NDArray[Any]) -> Votes:
        """Some of the votes, by a mask (V,) or their places; texts and raters keep their numbers."""
        columns = {name: getattr(self, name)[which] for name in ("text", "rater", "said", "seconds", "origin")}
        return replace(self, **columns)

    def latest(self) -> Votes:
        """Of several votes of one rater on one text the later one."""
        order = np.argsort(self.pairs(), kind="stable")
        return self.only(order[grouped(self.pairs()[order])]) if len(self) else self

    def pairs(self) -> Ints:
        """(V,) one number for each text and rater."""
        return np.asarray(self.text * len(self.raters) + self.rater, np.int64)

    def tally(self) -> Floats:
        """(U, C) how many votes say what of each text."""
        return counted(self.text, self.said, len(self.uids))

    def shared(self) -> npt.NDArray[np.bool_]:
        """(U,) whether two raters or more voted on a text."""
        texts = np.unique(self.pairs()) // max(1, len(self.raters))
        return np.asarray(np.bincount(texts, minlength=len(self.uids)) >= 2)

    def by_rater(self) -> dict[str, Ints]:
        """The places of each rater's votes, raters by name."""
        order = np.argsort(self.rater, kind="stable")
        ends = np.cumsum(np.bincount(self.rater, minlength=len(self.raters)))
        places = np.split(order, ends[:-1]) if len(self.raters) else []
        return {name: mine for name, mine in sorted(zip(self.raters, places, strict=True)) if len(mine)}


def counted(
    rows: npt.NDArray[np.integer[Any]], said: npt.NDArray[np.int8], height: int, weights: Floats | None = None
) -> Floats:
    """(height, C) how many votes, or how much weight (V,), say what in each row."""
    flat = np.bincount(rows.astype(np.int64) * CLASSES + said, weights, height * CLASSES)
    return np.asarray(flat, np.float64).reshape(height, CLASSES)


def votes_of(labels: Sequence[Label] | Votes) -> Votes:
    """Labels as votes, texts in the order of first appearance; votes as they are."""
    if isinstance(labels, Votes):
        return labels
    uids: dict[str, int] = {}
    raters: dict[str, int] = {}
    rows = [
        (
            uids.setdefault(label.uid, len(uids)),
            raters.setdefault(label.annotator, len(raters)),
            LABELS.index(label.label),
            ORIGINS.index(label.origin),
        )
        for label in labels
    ]
    text, rater, said, origin = np.array(rows, np.int64).reshape(-1, 4).T
    small = rater.astype(np.int32), said.astype(np.int8)
    seconds = np.array([np.nan if label.lead_time is None else label.lead_time for label in labels], np.float64)
    return Votes(list(uids), list(raters), text, *small, seconds, origin.astype(np.int8))


class ByUid(Mapping[str, Value]):
    """A value of each text in an array, by the text's uid: `make(place)`."""

    def __init__(self, uids: Sequence[str], make: Callable[[int], Value]) -> None:
        self._uids, self._make = uids, make
        self._places: dict[str, int] | None = None

    def __getitem__(self, uid: str) -> Value:
        if self._places is None:
            self._places = {uid: place for place, uid in enumerate(self._uids)}
        return self._make(self._places[uid])

    def at(self, place: int) -> Value:
        """The value of the text at a place among the uids."""
        return self._make(place)

    def __iter__(self) -> Iterator[str]:
        return iter(self._uids)

    def __len__(self) -> int:
        return len(self._uids)
