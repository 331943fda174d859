"""How far raters agree: Krippendorff's alpha, each rater's confusion against the others, and what follows from both.

The `krippendorff` package is under the GPL, so the formula stands here (twenty lines), from K. Krippendorff 2011,
"Computing Krippendorff's Alpha-Reliability", https://repository.upenn.edu/asc_papers/43, sections C and D.

Shapes: U units (tasks), C categories, B bootstrap draws, R raters.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rlhf.foundation.records import LABELS, Label

Floats = npt.NDArray[np.float64]
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


def by_unit(labels: Sequence[Label]) -> dict[str, dict[str, str]]:
    """uid -> annotator -> label; of two labels by one annotator the later row counts."""
    table: dict[str, dict[str, str]] = defaultdict(dict)
    for label in labels:
        table[label.uid][label.annotator] = label.label
    return dict(table)


def coincidences(units: Sequence[Sequence[int]], categories: int) -> Floats:
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
    paired = [values for values in units if len(values) >= 2]
    if not paired:
        return Estimate(None, None, None, 0)
    tables = coincidences(paired, categories)
    value = alpha_of(tables.sum(axis=0))
    drawn = _redraw(tables, draws, seed)
    alphas = [a for a in map(alpha_of, drawn) if a is not None]
    if value is None or not alphas:
        return Estimate(value, None, None, len(paired))
    low, high = np.percentile(alphas, [2.5, 97.5])
    return Estimate(value, float(low), float(high), len(paired))


def _redraw(tables: Floats, draws: int, seed: int) -> Floats:
    """(B, C, C) sums of coincidence matrices over units drawn with replacement."""
    units = len(tables)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(units, np.full(units, 1.0 / units), size=draws).astype(float)  # (B, U)
    summed: Floats = np.tensordot(weights, tables, axes=1)
    return summed


def label_alpha(labels: Sequence[Label], *, seed: int = 0) -> Estimate:
    """Krippendorff's ordinal alpha of labels, negative < neutral < positive."""
    units = [[ORDER.index(label) for label in unit.values()] for unit in by_unit(labels).values()]
    return krippendorff_alpha(units, len(ORDER), seed=seed)


def rater_counts(labels: Sequence[Label]) -> list[RaterCounts]:
    """Each rater's pace and confusion against the others, by name."""
    units = by_unit(labels)
    timed = [x.lead_time for x in labels if x.lead_time is not None]
    usual = float(np.median(timed)) if timed else None
    found = []
    for name in sorted({label.annotator for label in labels}):
        mine = [x for x in labels if x.annotator == name]
        seconds = [x.lead_time for x in mine if x.lead_time is not None]
        table = confusion(units, name)
        total = sum(map(sum, (row.values() for row in table.values())))
        found.append(
            RaterCounts(
                name,
                len(mine),
                float(np.median(seconds)) if seconds else None,
                len(seconds),
                table,
                sum(table[x][x] for x in LABELS) / total if total else None,
                {x: sum(label.label == x for label in mine) for x in LABELS},
                sum(s < HASTY * (usual or 0.0) for s in seconds),
                usual,
            )
        )
    return found


def confusion(units: Mapping[str, Mapping[str, str]], annotator: str) -> dict[str, dict[str, float]]:
    """table[mine][theirs]: each task that others labelled too counts one, shared among the others."""
    table: dict[str, dict[str, float]] = {mine: dict.fromkeys(map(str, LABELS), 0.0) for mine in LABELS}
    for unit in units.values():
        others = [label for name, label in unit.items() if name != annotator]
        if annotator in unit:
            for label in others:
                table[unit[annotator]][label] += 1.0 / len(others)
    return table


def single_label_ceiling(labels: Sequence[Label], *, draws: int = BOOTSTRAP, seed: int = 0) -> Estimate:
    """The share of single labels that a judge who is always right would match: no reward model can score higher.

    Two raters who are right with probability a, and otherwise wrong at random among the two other labels, agree with
    probability p = a² + (1 − a)²/2; so a = (1 + √(6p − 2))/3, p taken over pairs of labels of one task (each task
    weighing one) and the interval over tasks. Below p = 1/3, chance, a is 1/3.
    """
    units = [list(unit.values()) for unit in by_unit(labels).values() if len(unit) >= 2]
    if not units:
        return Estimate(None, None, None, 0)
    shares = np.array([_pair_agreement(unit) for unit in units])
    rng = np.random.default_rng(seed)
    drawn = shares[rng.integers(len(shares), size=(draws, len(shares)))].mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    value, low, high = (_accuracy(float(p)) for p in (shares.mean(), low, high))
    return Estimate(value, low, high, len(units))


def _pair_agreement(unit: Sequence[str]) -> float:
    same = sum(unit.count(name) * (unit.count(name) - 1) for name in set(unit))
    return same / (len(unit) * (len(unit) - 1))


def _accuracy(agreement: float) -> float:
    return float((1.0 + np.sqrt(max(0.0, 6.0 * agreement - 2.0))) / 3.0)
