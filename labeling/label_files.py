"""Labels and comparisons as tables, from their files; how far their raters agree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

from labeling.counting import Counting, count_comparisons
from labeling.pooling import pool
from labeling.rater_agreement import Estimate, label_alpha, single_label_ceiling
from labeling.tally import tally
from rlhf.foundation import records
from rlhf.foundation.given_records import records_of
from rlhf.foundation.records import Comparison, Label
from rlhf.foundation.tables import Table


def read_labels(path: str | Path) -> Table[Label]:
    """The rows of a labels.jsonl: one an annotator and text. Raises InputError on a bad row or an empty file."""
    found = records.read_labels(Path(path))
    return Table(found, tally(found))


def read_comparisons(path: str | Path) -> Table[Comparison]:
    """The rows of a comparisons.jsonl. Raises InputError on a bad row or an empty file."""
    found = records.read_comparisons(Path(path))
    return Table(found, tally(found))


class Agreement(NamedTuple):
    """Krippendorff's alpha (ordinal), and the accuracy that the best possible judge of single labels would reach.

    Each with its 95 % interval; `value` is None where no text has two labels.
    """

    alpha: Estimate
    ceiling: Estimate


def agreement(labels: Sequence[Label] | Sequence[Comparison], *, seed: int = 0) -> Agreement:
    """How far several raters agree on the same texts or pairs; `seed` is that of the bootstrap intervals.

    Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability". Raises InputError for rows of another kind.
    """
    if labels and isinstance(labels[0], Comparison):
        counted = count_comparisons(list(records_of(Comparison, cast(Sequence[Comparison], labels))))
    else:
        counting = Counting()
        counted = counting.counted(records_of(Label, cast(Sequence[Label], labels), None, counting.add))
    votes = counted.votes
    return Agreement(label_alpha(votes, seed=seed), single_label_ceiling(pool(votes).kept(votes), seed=seed))
