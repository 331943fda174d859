"""What the labelling commands say of what came out: every count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar, cast

from rlhf.foundation.records import Comparison, Label

Kept = TypeVar("Kept", Label, Comparison)


class Tally:
    """How many rows, of what, by how many annotators: counted while they pass."""

    def __init__(self) -> None:
        self.names: Counter[str] = Counter()
        self.annotators: set[str] = set()
        self.noun = "labels"

    def watch(self, records: Iterable[Kept]) -> Iterator[Kept]:
        """The records, counted."""
        for record in records:
            self.annotators.add(record.annotator)
            if isinstance(record, Label):
                self.names[record.label] += 1
            else:
                self.names["tie" if record.tie else "decided"] += 1
                self.noun = "comparisons"
            yield record

    def __str__(self) -> str:
        listed = ", ".join(f"{n} {name}" for name, n in sorted(self.names.items()))
        raters = len(self.annotators)
        return f"{self.names.total()} {self.noun} ({listed}) by {raters} annotator{'s' * (raters != 1)}"


def tally(records: Iterable[Label] | Iterable[Comparison]) -> str:
    """One line: how many rows, of what, by how many annotators."""
    counted = Tally()
    for _ in counted.watch(cast(Iterable[Label], records)):
        pass
    return str(counted)


def print_notes(notes: Sequence[str]) -> None:
    """Print what the person at the keyboard should know, a line each."""
    for note in notes:
        print(f"note: {note}")


def listed_counts(counts: Mapping[str, int]) -> str:
    """The counts that are not zero, as "3 skipped, 1 empty"; "" when there are none."""
    return ", ".join(f"{n} {name}" for name, n in counts.items() if n)
