"""What the labelling commands say of what came out: every count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from rlhf.foundation.records import Comparison, Label


def tally(records: Sequence[Label] | Sequence[Comparison]) -> str:
    """One line: how many rows, of what, by how many annotators."""
    annotators = len({record.annotator for record in records})
    names: Counter[str] = Counter()
    for record in records:
        names[record.label if isinstance(record, Label) else "tie" if record.tie else "decided"] += 1
    noun = "comparisons" if records and isinstance(records[0], Comparison) else "labels"
    listed = ", ".join(f"{n} {name}" for name, n in sorted(names.items()))
    return f"{len(records)} {noun} ({listed}) by {annotators} annotator{'s' * (annotators != 1)}"


def print_notes(notes: Sequence[str]) -> None:
    """Print what the person at the keyboard should know, a line each."""
    for note in notes:
        print(f"note: {note}")


def listed_counts(counts: Mapping[str, int]) -> str:
    """The counts that are not zero, as "3 skipped, 1 empty"; "" when there are none."""
    return ", ".join(f"{n} {name}" for name, n in counts.items() if n)
