"""Agreement by hand, and against figures that were published."""

from __future__ import annotations

import math

import numpy as np
import pytest

from labeling.by_rule import simulate_labels
from labeling.rater_agreement import (
    alpha_of,
    coincidences,
    krippendorff_alpha,
    label_alpha,
    rater_counts,
    single_label_ceiling,
)
from rlhf.foundation.records import Label, Sample


def label(uid: str, name: str, annotator: str, seconds: float | None = None) -> Label:
    return Label(uid, "", uid, name, annotator, lead_time=seconds)  # type: ignore[arg-type]


# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section E: four observers, twelve units, gaps.
PUBLISHED = [
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
]


def test_the_published_ordinal_figure() -> None:
    columns = zip(*(row.split() for row in PUBLISHED), strict=True)
    units = [[int(value) - 1 for value in column if value != "."] for column in columns]
    got = krippendorff_alpha(units, 5)
    assert got.value == pytest.approx(0.815, abs=5e-4)
    assert got.n == 11  # the twelfth unit has a single value and pairs with nothing
    # The same data have nominal alpha 0.743: a formula that forgot the metric is told apart.
    table = coincidences([u for u in units if len(u) >= 2], 5).sum(axis=0)
    totals = table.sum(axis=1)
    different = 1.0 - np.eye(5)
    nominal = 1.0 - (totals.sum() - 1) * (table * different).sum() / (np.outer(totals, totals) * different).sum()
    assert nominal == pytest.approx(0.743, abs=5e-4)


def test_alpha_by_hand() -> None:
    # Units (0,0) (0,1) (2,2): o_00 = 2, o_01 = o_10 = 1, o_22 = 2; n = (3, 1, 2), n total 6.
    # Middles 1.5, 3.5, 5: squared differences 01: 4, 02: 12.25, 12: 2.25.
    # Observed Σ_{c<k}: 1 x 4 = 4. Expected: 3x1x4 + 3x2x12.25 + 1x2x2.25 = 12 + 73.5 + 4.5 = 90.
    # alpha = 1 - 5 x 4/90 = 0.7778.
    assert krippendorff_alpha([[0, 0], [0, 1], [2, 2]], 3).value == pytest.approx(1 - 20 / 90)


def test_perfect_agreement_chance_and_a_single_label() -> None:
    assert krippendorff_alpha([[0, 0], [1, 1], [2, 2]], 3).value == pytest.approx(1.0)
    rng = np.random.default_rng(0)
    random = krippendorff_alpha(rng.integers(3, size=(3000, 2)).tolist(), 3)
    assert random.value == pytest.approx(0.0, abs=0.06)
    assert random.low is not None
    assert random.high is not None
    assert random.low < 0 < random.high
    assert krippendorff_alpha([[1, 1], [1, 1]], 3).value is None
    assert alpha_of(np.zeros((3, 3))) is None
    assert krippendorff_alpha([[1], [2]], 3).n == 0


def test_bootstrap_interval_covers_the_truth() -> None:
    """Alpha of raters with known noise on many tasks is the truth; intervals from 200 tasks should cover it often."""
    rng = np.random.default_rng(1)
    truth = rng.integers(3, size=20000)

    def rated(n: int) -> list[list[int]]:
        start = rng.integers(len(truth) - n)
        part = truth[start : start + n]
        wrong = rng.random((n, 3)) < 0.15
        shift = rng.integers(1, 3, size=(n, 3))
        values: list[list[int]] = ((part[:, None] + wrong * shift) % 3).tolist()
        return values

    target = krippendorff_alpha(rated(19999), 3, draws=2).value
    assert target is not None
    covered = 0
    for seed in range(100):
        got = krippendorff_alpha(rated(200), 3, draws=300, seed=seed)
        assert got.low is not None
        assert got.high is not None
        covered += got.low <= target <= got.high
    assert covered >= 87  # 95 expected, standard error 2.2; 87 lies 3.6 errors below


def test_confusion_by_hand_and_pace() -> None:
    labels = [
        label("u1", "positive", "ana", 1.0),
        label("u1", "positive", "ben", 9.0),
        label("u1", "neutral", "eva"),
        label("u2", "negative", "ana", 3.0),
        label("u2", "positive", "ben"),
        label("u3", "neutral", "ana", 8.0),  # nobody else: no pair
    ]
    ana, ben, eva = rater_counts(labels)
    # u1: ana positive against ben positive and eva neutral, one half each; u2: negative against positive.
    assert ana.against_others["positive"] == {"positive": 0.5, "neutral": 0.5, "negative": 0.0}
    assert ana.against_others["negative"] == {"positive": 1.0, "neutral": 0.0, "negative": 0.0}
    assert ana.agreement == pytest.approx(0.25)
    assert (ana.labels, ana.median_seconds, ana.timed) == (3, 3.0, 3)
    assert (ben.labels, ben.timed, eva.median_seconds) == (2, 1, None)


def test_the_ceiling_recovers_the_raters_accuracy() -> None:
    names = ("positive", "neutral", "negative")
    truth = {f"u{i}": names[i % 3] for i in range(600)}
    samples = [Sample(uid, "", uid, "m") for uid in truth]
    labels = [
        row
        for rater in ("ana", "ben", "eva")
        for row in simulate_labels(samples, lambda uid, _: truth[uid], annotator=rater, noise=0.15, seed=2)  # type: ignore[arg-type, return-value]
    ]
    got = single_label_ceiling(labels)
    assert got.value == pytest.approx(0.85, abs=0.02)
    assert got.low is not None
    assert got.high is not None
    assert got.low < 0.85 < got.high
    # By hand: agreement .85² + .15²/2 = .73375, and (1 + √(6 x .73375 − 2))/3 = (1 + 1.55)/3 = .85.
    assert (1 + math.sqrt(6 * 0.73375 - 2)) / 3 == pytest.approx(0.85)
    alpha = label_alpha(labels)
    assert alpha.value is not None
    assert 0.5 < alpha.value < 0.8
