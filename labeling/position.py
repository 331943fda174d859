"""Position bias: raters who choose a side of the screen rather than a text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from labeling.counting import plain
from labeling.folder import Task
from rlhf.foundation.proportion import Proportion, wilson
from rlhf.foundation.records import Comparison, rater_name


def left_shares(comparisons: Sequence[Comparison], tasks: Mapping[str, Task]) -> dict[str, Proportion]:
    """Of each rater's decided answers the share that chose the text shown on the left, with its 95 % interval.

    `tasks` know which side each text was shown on. Sides are dealt by lot, so that the share is 1/2 for a rater who
    reads, whichever text is better. Ties, and comparisons of other tasks, are passed over; of a rater's several
    answers to one task the later row counts.
    """
    left: dict[str, dict[str, bool]] = defaultdict(dict)
    for row in comparisons:
        task = tasks.get(row.uid)
        if task is not None and not row.tie:
            shown_left = task.second if task.swapped else task.text
            left[rater_name(row.annotator)][row.uid] = plain(row.chosen) == plain(shown_left)
    return {name: wilson(sum(chosen.values()), len(chosen)) for name, chosen in left.items()}
