"""Labels that come in by several ways are one file: nothing is replaced but by the same person's later answer."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

from labeling.annotations import UNTIMED
from rlhf.foundation.lazy import Lazy
from rlhf.foundation.moments import UNKNOWN, instant
from rlhf.foundation.records import Comparison, Label
from rlhf.foundation.repeats import Keys

Kept = TypeVar("Kept", Label, Comparison)


def union(records: Sequence[Kept]) -> tuple[Sequence[Kept], Counter[str]]:
    """One record a text and annotator, the later in time, in the order in which the texts first came; and counts.

    Equal records are one ("there already"). The rules of time are those of `annotations.latest`.
    """
    keys, counts = Keys(), Counter[str]()
    for record in records:
        keys.add(record.uid, record.annotator)
    instead: dict[int, int | None] = {}  # place -> the place of the record that counts there, None for none
    for first, *others in keys.groups():
        kept = first
        for other in others:
            instead[other] = None
            kept = _later(records, kept, other, counts)
        instead[first] = kept
    if not instead:
        return records, counts
    places = (instead.get(place, place) for place in range(len(records)))
    return Lazy(records.__getitem__, array("q", (place for place in places if place is not None))), counts


def _later(records: Sequence[Kept], place: int, next_place: int, counts: Counter[str]) -> int:
    """Which of two records of one person on one text counts, and what that is called."""
    other, record = records[place], records[next_place]
    if other == record:
        counts["there already"] += 1
        return place
    counts["superseded"] += 1
    counts[UNTIMED] += UNKNOWN in (_age(record), _age(other))
    return next_place if _age(record) >= _age(other) else place


def _age(record: Label | Comparison) -> datetime:
    return instant(record.created_at, f"the answer of {record.annotator!r} to {record.uid}, created_at")
