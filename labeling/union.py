"""Labels that come in by several ways are one file: nothing is replaced but by the same person's later answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import TypeVar

from labeling.annotations import UNTIMED
from rlhf.foundation.moments import UNKNOWN, instant
from rlhf.foundation.records import Comparison, Label

Kept = TypeVar("Kept", Label, Comparison)


def union(records: Iterable[Kept]) -> tuple[list[Kept], Counter[str]]:
    """One record a text and annotator, the later in time, in the order in which the texts first came; and counts.

    Equal records are one ("there already"). The rules of time are those of `annotations.latest`.
    """
    kept: dict[tuple[str, str], Kept] = {}
    counts: Counter[str] = Counter()
    for record in records:
        key = (record.uid, record.annotator)
        other = kept.setdefault(key, record)
        if other is record:
            continue
        if other == record:
            counts["there already"] += 1
            continue
        counts["superseded"] += 1
        counts[UNTIMED] += UNKNOWN in (_age(record), _age(other))
        if _age(record) >= _age(other):
            kept[key] = record
    return list(kept.values()), counts


def _age(record: Label | Comparison) -> datetime:
    return instant(record.created_at, f"the answer of {record.annotator!r} to {record.uid}, created_at")
