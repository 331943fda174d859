"""How far raters agree: Krippendorff's alpha, each rater's confusion against the others, and what follows from both.

The `krippendorff` package is under the GPL, so the formula stands here (twenty lines), from K. Krippendorff 2011,
"Computing Krippendorff's Alpha-Reliability", https://repository.upenn.edu/asc_papers/43, sections C and D.

Shapes: U units (tasks), C categories, B bootstrap draws, R raters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from labeling.votes import CLASSES, Floats, Ints, Votes, counted, votes_of
from rlhf.foundation.records import LABELS, Label

# From low to high, so that "positive" against "negative" is a graver disagreement than "positive" against "neutral".
ORDER: tuple[str, ...] = ("negative", "neutral", "positive")
BOOTSTRAP = 1000
HASTY = 0.2  # of the median time of everyone's labels


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval and the number of tasks it rests on; None where it is undefined."""

    value: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, slots=True)
class RaterCounts:
    """One rater's work: labels in all and of each kind, seconds a label (median, of n known), the table of agreement.

    `hasty` labels took less than a fifth of the median time of all raters' labels together, which is `usual_seconds`.
    `against_others[mine][theirs]` counts pairs of labels of one task, each task weighing one in all; `agreement` is
    the share on its diagonal.
    """

    annotator: str
    labels: int
    median_seconds: float | None
    timed: int
    against_others: dict[str, dict[str, float]]
    agreement: float | None
    answers: dict[str, int]
    hasty: int
    usual_seconds: float | None


def coincidences(units: Sequence[Sequence[int] | Ints], categories: int) -> Floats:
    """(U, C, C) coincidence matrices, one a unit of m ≥ 2 values: o_ck = Σ over ordered pairs of [c, k] / (m − 1)."""
    tables = np.zeros((len(units), categories, categories))
    for table, values in zip(tables, units, strict=True):
        counts = np.bincount(np.asarray(values), minlength=categories).astype(float)
        table[:] = (np.outer(counts, counts) - np.diag(counts)) / (len(values) - 1)
    return tables


def alpha_of(table: Floats) -> float | None:
    """Ordinal alpha of a summed (C, C) coincidence matrix; None when every value is the same.

    α = 1 − (n − 1) Σ_{c<k} o_ck δ²_ck / Σ_{c<k} n_c n_k δ²_ck, with n_c = Σ_k o_ck, n = Σ_c n_c and the ordinal
    metric δ_ck = Σ_{g=c..k} n_g − (n_c + n_k)/2.
    """
    totals = table.sum(axis=1)
    up_to = np.cumsum(totals)
    middle = up_to - totals / 2.0  # the difference of two middles is the ordinal metric
    squared = (middle[:, None] - middle[None, :]) ** 2
    expected = float((np.outer(totals, totals) * squared).sum())
    if expected == 0.0:
        return None
    return 1.0 - float((totals.sum() - 1.0) * (table * squared).sum()) / expected


def krippendorff_alpha(
    units: Sequence[Sequence[int]], categories: int, *, draws: int = BOOTSTRAP, seed: int = 0
) -> Estimate:
    """Ordinal alpha over the units with at least two values, with a percentile bootstrap over those units.

    Values are category numbers, 0 to C − 1, from low to high. 1 is perfect agreement, 0 is chance.
    """
    counts = [np.bincount(np.asarray(values, np.int64), minlength=categories) for values in units]
    return _alpha(np.array(counts, np.float64).reshape(-1, categories), draws, seed)


def _alpha(counts: Floats, draws: int, seed: int) -> Estimate:
    """Alpha of units given by how often each category was said of them, (U, C)."""
    paired = counts[counts.sum(axis=1) >= 2]
    if not len(paired):
        return Estimate(None, None, None, 0)
    kinds, times = np.unique(paired, axis=0, return_counts=True)
    tables = coincidences([np.repeat(np.arange(len(kind)), kind.astype(int)) for kind in kinds], counts.shape[1])
    value = alpha_of(np.tensordot(times.astype(np.float64), tables, axes=1))
    drawn = [table for weights in _redraw(times, draws, seed) for table in np.tensordot(weights, tables, axes=1)]
    alphas = [a for a in map(alpha_of, drawn) if a is not None]
    if value is None or not alphas:
        return Estimate(value, None, None, len(paired))
    low, high = np.percentile(alphas, [2.5, 97.5])
    return Estimate(value, float(low), float(high), len(paired))


def _redraw(times: Ints, draws: int, seed: int) -> Iterator[Floats]:
    """How often each kind of unit comes when all are drawn anew with replacement: (b, kinds), `draws` rows in all.

    Units of one kind (the same labels) are alike, so that their number alone is drawn: a million units have few kinds.
    """
    rng = np.random.default_rng(seed)
    step = max(1, 1_000_000 // len(times))
    for start in range(0, draws, step):
        size = min(step, draws - start)
        yield rng.multinomial(times.sum(), times / times.sum(), size=size).astype(np.float64)


def label_alpha(labels: Sequence[Label] | Votes, *, seed: int = 0) -> Estimate:
    """Krippendorff's ordinal alpha of labels, negative < neutral < positive."""
    low_to_high = [LABELS.index(name) for name in ORDER]
    return _alpha(votes_of(labels).latest().tally()[:, low_to_high], BOOTSTRAP, seed)


def rater_counts(labels: Sequence[Label] | Votes) -> list[RaterCounts]:
    """Each rater's pace and confusion against the others, by name."""
    votes = votes_of(labels)
    tables = confusions(votes)
    timed = votes.seconds[~np.isnan(votes.seconds)]
    usual = float(np.median(timed)) if len(timed) else None
    found = []
    for name, places in votes.by_rater().items():
        mine = votes.only(places)
        seconds = mine.seconds[~np.isnan(mine.seconds)]
        table = tables[votes.raters.index(name)]
        total = float(table.sum())
        answers = np.bincount(mine.said, minlength=CLASSES)
        found.append(
            RaterCounts(
                name,
                len(mine),
                float(np.median(seconds)) if len(seconds) else None,
                len(seconds),
                {x: dict(zip(LABELS, map(float, row), strict=True)) for x, row in zip(LABELS, table, strict=True)},
                float(np.trace(table)) / total if total else None,
                dict(zip(LABELS, map(int, answers), strict=True)),
                int((seconds < HASTY * (usual or 0.0)).sum()),
                usual,
            )
        )
    return found


def confusions(votes: Votes) -> Floats:
    """(R, C, C) each rater's label against the others': a task that others labelled too counts one, shared among them.

    Of a rater's several labels of one task the later row counts.
    """
    votes = votes.latest()
    tally = votes.tally()
    votes = votes.only(tally.sum(axis=1)[votes.text] >= 2)
    tables = np.zeros((len(votes.raters), CLASSES, CLASSES))
    others = tally[votes.text].sum(axis=1) - 1.0
    for theirs in range(CLASSES):
        share = (tally[votes.text, theirs] - (votes.said == theirs)) / others
        tables[:, :, theirs] = counted(votes.rater, votes.said, len(votes.raters), share)
    return tables


def single_label_ceiling(labels: Sequence[Label] | Votes, *, draws: int = BOOTSTRAP, seed: int = 0) -> Estimate:
    """The share of single labels that a judge who is always right would match: no reward model can score higher.

    Two raters who are right with probability a, and otherwise wrong at random among the two other labels, agree with
    probability p = a² + (1 − a)²/2; so a = (1 + √(6p − 2))/3, p taken over pairs of labels of one task (each task
    weighing one) and the interval over tasks. Below p = 1/3, chance, a is 1/3.
    """
    tally = votes_of(labels).latest().tally()
    sizes = tally.sum(axis=1)
    tally, sizes = tally[sizes >= 2], sizes[sizes >= 2]
    if not len(tally):
        return Estimate(None, None, None, 0)
    shares, times = np.unique((tally * (tally - 1)).sum(axis=1) / (sizes * (sizes - 1)), return_counts=True)
    drawn = np.concatenate([weights @ shares for weights in _redraw(times, draws, seed)]) / len(tally)
    low, high = np.percentile(drawn, [2.5, 97.5])
    value, low, high = (_accuracy(float(p)) for p in (times @ shares / len(tally), low, high))
    return Estimate(value, low, high, len(tally))


def _accuracy(agreement: float) -> float:
    return float((1.0 + np.sqrt(max(0.0, 6.0 * agreement - 2.0))) / 3.0)
