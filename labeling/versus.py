"""How often the texts of one source are chosen over another's: what the folder alone knows, since pairs are blind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from labeling.counting import plain
from labeling.folder import Task
from rlhf.foundation.proportion import Proportion, wilson
from rlhf.foundation.records import Comparison, rater_name
from rlhf.foundation.terminal import shown


@dataclass(frozen=True, slots=True)
class Versus:
    """Of the pairs of `source` and `other` the share that the raters gave to `source`, with its Wilson interval.

    A pair goes to the source that more of its raters chose; it counts one half where as many chose the other, or nobody
    either. The interval is over pairs, since several raters of one pair judge the same two texts.
    """

    source: str
    other: str
    won: Proportion

    def line(self) -> str:
        """`A over B: 62% of 40 pairs (95 % interval 47% to 76%)`."""
        won = self.won
        return (
            f"{shown(self.source, 60)} over {shown(self.other, 60)}: {won.share:.0%} of {won.n} pairs (95 % interval "
            f"{won.low:.0%} to {won.high:.0%}; each by the majority of its raters, an even one is half)"
        )


def source_shares(comparisons: Sequence[Comparison], tasks: Mapping[str, Task]) -> list[Versus]:
    """One for every two sources whose texts were compared, in the tasks' order; a rater's later row counts."""
    said: dict[str, dict[str, float]] = defaultdict(dict)
    for row in comparisons:
        if (task := tasks.get(row.uid)) is not None:
            said[row.uid][rater_name(row.annotator)] = 0.5 if row.tie else float(plain(row.chosen) == plain(task.text))
    found: dict[tuple[str, str], list[float]] = {}
    for uid, task in tasks.items():
        names = (task.source, task.second_source)
        if uid not in said or not all(names) or names[0] == names[1]:
            continue
        first = sum(said[uid].values()) / len(said[uid])
        if names[::-1] in found:
            names, first = names[::-1], 1.0 - first
        found.setdefault(names, []).append(1.0 if first > 0.5 else 0.5 if first == 0.5 else 0.0)
    return [Versus(*names, wilson(sum(won), len(won))) for names, won in found.items()]
