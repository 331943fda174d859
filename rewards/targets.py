"""Labels become soft targets: the rows of one text are pooled, checked, hashed, and split by text."""

from __future__ import annotations

import bisect
import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from labeling.counting import Counted, count_once
from labeling.pooling import Method, Pooled, pool
from labeling.rater_agreement import Estimate, single_label_ceiling
from rlhf.foundation.data_sets import Placed
from rlhf.foundation.errors import InputError
from rlhf.foundation.layouts import Texts, read_judged_rows
from rlhf.foundation.records import LABELS, ORIGINS, Label, LabelName, content_uid

MINIMUM_LABELS = 20
"""Fewer labels than this are refused: even a perfect held-out share would prove nothing."""
PART, SAMPLED = 2_000, 5_000
"""Rows that are sorted at once, and how many of all tell where the parts begin."""


@dataclass(frozen=True, slots=True)
class LabelledText:
    """One text and what its annotators said of it, together.

    `target` is P(positive) + P(neutral)/2 as pooled, `n_labels` the number of labels behind it, `said` what they say
    on balance (None: by the side of one half that `target` lies on).
    """

    prompt: str
    completion: str
    target: float
    n_labels: int
    said: LabelName | None = None

    @property
    def verdict(self) -> LabelName:
        """What the labels say on balance; neutral where they are undecided."""
        if self.said is not None:
            return self.said
        if self.target == 0.5:
            return "neutral"
        return "positive" if self.target > 0.5 else "negative"


@dataclass(frozen=True, slots=True)
class PooledLabels:
    """Labels on their way to a reward model: the texts with targets, which rows counted, what the raters weigh.

    `unjudged` texts had labels of raters at chance alone and are left out.
    """

    texts: list[LabelledText]
    counted: Counted
    pooled: Pooled

    @property
    def unjudged(self) -> int:
        """Texts that only raters at chance had labelled."""
        return len(self.counted.votes.uids) - len(self.texts)

    @property
    def ceiling(self) -> Estimate:
        """What a judge who is always right would reach against single labels of the raters who count."""
        return single_label_ceiling(self.pooled.kept(self.counted.votes))

    def lines(self) -> list[str]:
        """What a person should know of rows and raters, for the terminal."""
        gone = [f"{self.unjudged} texts that nobody else labelled are left out with them"] if self.unjudged else []
        return [*self.counted.lines(), *self.pooled.lines(), *gone]


def labels_of(rows: Sequence[Placed], texts: Texts = "auto") -> list[Label]:
    """Labels from the rows of a data set in TRL's unpaired layout (prompt, completion, label true or false).

    Nobody is named there: all are one annotator's, and a text that is judged twice counts once.
    """
    return [
        Label(content_uid(row.prompt, row.completion), row.prompt, row.completion, row.label, "data set")
        for row in read_judged_rows(rows, texts)
    ]


def pool_labels(labels: Sequence[Label], method: Method = "dawid_skene", place: str = "labels") -> PooledLabels:
    """One soft target a text, in order of first appearance, pooled as `rlhf label status` shows it.

    Rows are pooled by text (prompt and completion as one), so that a text that was sampled or labelled twice can
    never stand on both sides of a split. Raises InputError when one uid carries two texts, or when all raters agree no
    better than chance.
    """
    counted = count_once(labels)
    pooled = pool(counted.votes, method)
    pooled.require_someone(place)
    targets, verdicts, counts = pooled.targets, pooled.verdicts, pooled.counts
    votes = counted.votes
    _, first = np.unique(votes.text, return_index=True)  # texts are numbered in the order of their first rows
    texts: list[LabelledText] = []
    for uid, row in zip(votes.uids, first, strict=True):
        judged = len(texts)
        if judged < len(pooled.uids) and uid == pooled.uids[judged]:  # others were judged by nobody who counts
            label = labels[counted.kept[row]]
            said = targets.at(judged), counts.at(judged), verdicts.at(judged)
            texts.append(LabelledText(label.prompt, label.completion, *said))
    return PooledLabels(texts, counted, pooled)


def require_both_classes(texts: Sequence[LabelledText], place: str) -> None:
    """Raise InputError unless there are enough labels and both positive and negative texts among them."""
    n_labels = sum(text.n_labels for text in texts)
    verdicts = Counter(text.verdict for text in texts)
    counted = f"{n_labels} labels on {len(texts)} texts ({describe_counts(verdicts)})"
    if n_labels < MINIMUM_LABELS:
        raise InputError(
            place, got=counted, expected=f"at least {MINIMUM_LABELS} labels, better some hundreds", fix="label more"
        )
    for name in ("positive", "negative"):
        if verdicts[name] < 2:
            raise InputError(
                place,
                got=counted,
                expected=f"at least two texts of each class, but {verdicts[name]} are {name}",
                fix=f"label more texts, so that some are {name}, or check how labels were mapped on import",
            )


def describe_counts(verdicts: Counter[LabelName]) -> str:
    """`12 positive, 3 neutral, 5 negative`."""
    return ", ".join(f"{verdicts[name]} {name}" for name in LABELS)


def fold_of_text(texts: Sequence[LabelledText], n_folds: int, seed: int) -> list[int]:
    """Which of `n_folds` folds each text falls into; every verdict is spread evenly over the folds.

    Texts, not rows, are dealt out: all labels of one text stand on one side of every split.
    """
    rng = random.Random(f"folds {seed}")
    folds = [0] * len(texts)
    dealt = 0
    for verdict in LABELS:
        group = [i for i, text in enumerate(texts) if text.verdict == verdict]
        rng.shuffle(group)
        for i in group:
            folds[i] = dealt % n_folds
            dealt += 1
    return folds


def label_summary(found: PooledLabels) -> dict[str, Any]:
    """Counts of what was labelled, for reward_model.json: rows, texts, annotators, labels by name and origin.

    `contradicted_texts` were called positive by one label and negative by another; `judged_again` labels are a rater's
    second answer to a text that stood under two uids; `pooling` has the method, the raters' weights and who was left
    out; the rest as `Counted.report` says.
    """
    votes = found.counted.votes
    said = votes.tally()[:, [LABELS.index("positive"), LABELS.index("negative")]]
    return {
        "rows": found.counted.rows,
        **found.counted.report(),
        "texts": len(votes.uids),
        "texts_used": len(found.texts),
        "annotators": len(votes.by_rater()),
        "by_label": _by_name(LABELS, votes.said),
        "by_origin": _by_name(ORIGINS, votes.origin),
        "contradicted_texts": int((said > 0).all(axis=1).sum()),
        "judged_again": len(votes) - len(votes.latest()),
        "pooling": found.pooled.report(),
    }


def _by_name(names: Sequence[str], places: npt.NDArray[np.int8]) -> dict[str, int]:
    """How often each of the names that occur does, as the first of each stand."""
    found, first, times = np.unique(places, return_index=True, return_counts=True)
    return {names[found[i]]: int(times[i]) for i in np.argsort(first)}


def hash_labels(labels: Sequence[Label]) -> str:
    """SHA-256 over texts, labels and annotators, whatever the order of the rows; times and uids do not enter."""
    found = hashlib.sha256()
    for number, row in enumerate(_sorted_rows(labels)):
        found.update((b"\n" if number else b"") + row.encode("utf-8", "surrogatepass"))
    return found.hexdigest()


def _sorted_rows(labels: Sequence[Label]) -> Iterator[str]:
    """A row of JSON a label, sorted: first by the part of the alphabet, then part by part, one in memory at a time."""
    some = sorted(map(_row, labels[:: max(1, len(labels) // SAMPLED)]))
    step = max(1, round(len(some) * PART / max(1, len(labels))))
    borders = some[step::step]
    parts = np.fromiter((bisect.bisect(borders, _row(label)) for label in labels), np.int32, len(labels))
    order = np.argsort(parts, kind="stable")
    for part in np.split(order, np.cumsum(np.bincount(parts, minlength=len(borders) + 1))[:-1]):
        yield from sorted(_row(labels[place]) for place in part)


def _row(label: Label) -> str:
    return json.dumps([label.prompt, label.completion, label.label, label.annotator], ensure_ascii=False)
