"""Where raters lean: to a side of the screen rather than a text, or to more or fewer positive verdicts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from labeling.counting import plain
from labeling.folder import Task
from labeling.votes import Votes
from rlhf.foundation.proportion import Proportion, wilson
from rlhf.foundation.records import LABELS, Comparison, rater_name

POSITIVE = LABELS.index("positive")


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


@dataclass(frozen=True, slots=True)
class Verdicts:
    """One rater's share of positive verdicts beside the others' on the same `n` tasks, each task weighing one.

    `higher` is, of the tasks on which the two shares differ, the share on which the rater's is the higher one, with
    its Wilson interval (a sign test over tasks): 1/2 for a rater who is wrong as often either way.
    """

    share: float
    others: float
    n: int
    higher: Proportion

    @property
    def leaning(self) -> str:
        """ "POSITIVE" or "NEGATIVE" where the interval of `higher` leaves out 1/2, else ""."""
        return "POSITIVE" if self.higher.low > 0.5 else "NEGATIVE" if self.higher.high < 0.5 else ""


def verdict_shares(votes: Votes) -> dict[str, Verdicts]:
    """Each rater's verdicts beside those of the others on the tasks that others judged too, by name."""
    votes = votes.latest()
    tally = votes.tally()
    votes = votes.only(tally.sum(axis=1)[votes.text] >= 2)
    mine = (votes.said == POSITIVE).astype(np.float64)
    others = (tally[votes.text, POSITIVE] - mine) / (tally[votes.text].sum(axis=1) - 1.0)
    found = {}
    for name, places in votes.by_rater().items():
        more, less = int((mine > others)[places].sum()), int((mine < others)[places].sum())
        shares = float(mine[places].mean()), float(others[places].mean())
        found[name] = Verdicts(*shares, len(places), wilson(more, more + less))
    return found
