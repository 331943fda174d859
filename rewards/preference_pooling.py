"""Several raters' answers to one pair become one soft preference, by the same pooling as judgements."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from labeling.counting import Counted, count_once, pair_label, pair_order, plain
from labeling.pooling import Method, Pooled, pool
from rewards.preferences import Preference, answer
from rlhf.foundation.records import SOFT_TARGETS, Comparison, Label, LabelName, content_uid


@dataclass(frozen=True, slots=True)
class PooledPreferences:
    """Pairs with their soft preferences, which rows counted, what the raters weigh.

    `unnamed` answers had no annotator (as in most of TRL's data sets): then nobody can be weighed.
    """

    pairs: list[Preference]
    counted: Counted
    pooled: Pooled
    unnamed: int

    def lines(self) -> list[str]:
        """What a person should know of rows and raters, for the terminal."""
        return [*self.counted.lines(), *([] if self.unnamed else self.pooled.lines())]

    def report(self) -> dict[str, Any]:
        """The counts for reward_model.json."""
        raters = self.counted.votes.by_rater() if not self.unnamed else {}
        pooling = self.pooled.report() if not self.unnamed else {"method": "share", "raters": {}, "left_out": {}}
        return {
            **self.counted.report(),
            "answers": sum(pair.n_answers for pair in self.pairs),
            "annotators": len(raters),
            "unnamed_answers": self.unnamed,
            "pairs": len(self.pairs),
            "undecided": sum(pair.said == 0.5 for pair in self.pairs),
            "pooling": pooling,
        }


def pool_preferences(
    rows: Sequence[Preference], method: Method = "dawid_skene", place: str = "comparisons"
) -> PooledPreferences:
    """One soft preference a pair, whichever side its texts stood on, in order of first appearance.

    `rows` are single answers: target 1, 1/2 (a tie) or 0, margin signed towards the first text. A pair's target is
    P(first) + P(tie)/2 as pooled, its margin the mean of the margins of the answers that count, towards the same
    side. Where a row names nobody every answer counts the same. Raises InputError when one uid carries two pairs, or
    when all raters agree no better than chance.
    """
    different = [row for row in rows if plain(row.first) != plain(row.second)]
    unnamed = sum(not row.annotator for row in different)
    found = [_label(number, row) for number, row in enumerate(different, start=1)]
    keys = [key for _, key in found]
    counted = count_once([label for label, _ in found], keys, equal=len(rows) - len(different))
    pooled = pool(counted.votes, "share" if unnamed else method)
    pooled.require_someone(place)
    answers: dict[str, list[Preference]] = defaultdict(list)
    for label, number in zip(counted.labels, counted.kept, strict=True):
        if label.annotator not in pooled.left_out:
            answers[label.uid].append(different[number])
    targets, verdicts = pooled.targets, pooled.verdicts
    pairs = [_pair(group, targets[uid], verdicts[uid]) for uid, group in answers.items()]
    return PooledPreferences(pairs, counted, pooled, unnamed)


def pool_comparisons(comparisons: Sequence[Comparison], method: Method = "dawid_skene") -> PooledPreferences:
    """`pool_preferences` of records."""
    rows = [answer(c.prompt, c.chosen, c.rejected, tie=c.tie, uid=c.uid, annotator=c.annotator) for c in comparisons]
    return pool_preferences(rows, method)


def _label(number: int, row: Preference) -> tuple[Label, tuple[str, ...]]:
    """One answer as a label; a row without annotator has a name of its own, one without uid is known by its pair."""
    chosen, rejected = (row.first, row.second) if row.target >= 0.5 else (row.second, row.first)
    name = row.annotator or f"row {number}"
    label, key = pair_label(row.prompt, chosen, rejected, tie=row.target == 0.5, uid="pair", annotator=name)
    return replace(label, uid=row.uid or content_uid(*key)), key


def _pair(group: Sequence[Preference], target: float, verdict: LabelName) -> Preference:
    """The pair of some answers, from P(second as `pair_order` has it) and what the raters say on balance."""
    pair = group[0]
    said = SOFT_TARGETS[verdict]
    if pair_order(pair.first) < pair_order(pair.second):
        target, said = 1 - target, 1 - said
    margins = [row.margin if plain(row.first) == plain(pair.first) else -row.margin for row in group]
    return Preference(pair.prompt, pair.first, pair.second, target, len(group), math.fsum(margins) / len(margins), said)
