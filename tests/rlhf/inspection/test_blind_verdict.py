"""The blind verdict: exact permutation p, Holm, the sample as the unit, false alarms, power as planned."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from labeling.blind import Unblinded
from rlhf.foundation.errors import InputError
from rlhf.inspection.blind_power import Raters, needed, plan_study, power, quality_pair, rating_probabilities
from rlhf.inspection.blind_verdict import _sampled_p, holm, judge, permutation_p, sample_means, welch_interval


def enumerated_p(a: list[Fraction], b: list[Fraction]) -> float:
    pooled = [*a, *b]
    centre = sum(pooled) / len(pooled)
    observed = abs(sum(a) / len(a) - centre)
    groups = list(itertools.combinations(range(len(pooled)), len(a)))
    return sum(abs(sum(pooled[i] for i in g) / len(a) - centre) >= observed for g in groups) / len(groups)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (["5", "4", "4", "3"], ["2", "1", "3", "2"]),
        (["5", "9/2", "4"], ["2", "7/2", "3", "5/2", "1"]),
        (["10/3", "11/3"], ["4/3", "7/3", "3"]),
        (["3", "3"], ["3", "3", "3"]),
    ],
)
def test_the_counted_p_equals_enumeration(a: list[str], b: list[str]) -> None:
    x, y = [Fraction(v) for v in a], [Fraction(v) for v in b]
    assert permutation_p(x, y) == pytest.approx(enumerated_p(x, y), abs=1e-12)
    assert permutation_p(y, x) == pytest.approx(enumerated_p(x, y), abs=1e-12)


def test_p_by_hand() -> None:
    # {5, 4} against {1, 2}: of the 6 ways to deal, {5, 4} and {1, 2} are as far apart: p = 2/6.
    assert permutation_p([Fraction(5), Fraction(4)], [Fraction(1), Fraction(2)]) == pytest.approx(1 / 3)


def test_the_sampled_p_agrees_with_the_counted_one() -> None:
    a, b = [5, 4, 4, 3, 5, 4], [2, 1, 3, 4, 2, 3]
    counted = permutation_p([Fraction(v) for v in a], [Fraction(v) for v in b])
    sampled = _sampled_p(np.array(a, dtype=float), np.array(b, dtype=float))
    assert sampled == pytest.approx(counted, abs=0.003)  # se 0.0005 at p about 0.03
    assert _sampled_p(np.array([1.0, 1.0]), np.array([1.0, 1.0])) == 1


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.04: times 3, 2, 1 and made to rise: 0.03, 0.04, 0.04.
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.6, 0.9]) == [1.0, 1.0]


def rows(ratings: dict[str, list[list[int]]]) -> list[Unblinded]:
    """Unblinded rows from source -> samples -> ratings by rater."""
    return [
        Unblinded(f"{source}-{i}", source, rating, f"rater {r}", "", None)
        for source, samples in ratings.items()
        for i, given in enumerate(samples)
        for r, rating in enumerate(given)
    ]


def test_three_raters_of_a_sample_are_one_observation() -> None:
    once = {"original": [[2], [3], [2], [4]], "policy": [[4], [5], [3], [5]]}
    thrice = {source: [sample * 3 for sample in samples] for source, samples in once.items()}
    one, three = judge(rows(once), "original"), judge(rows(thrice), "original")
    assert one.contrasts == three.contrasts
    assert (three.raters, three.ratings) == (3, 24)
    assert three.alpha == pytest.approx(1)
    assert one.alpha is None
    assert "agreement unknown" in " ".join(one.statements())
    assert sample_means(rows({"a": [[1, 2], [5, 5]]})) == {"a": [Fraction(3, 2), Fraction(5)]}


def test_several_models_and_the_words_of_the_verdict() -> None:
    generator = np.random.default_rng(0)

    def samples(mean: float) -> list[list[int]]:
        return [[int(v)] for v in np.clip(np.rint(generator.normal(mean, 0.8, 20)), 1, 5)]

    verdict = judge(
        rows({"original": samples(3), "joy": samples(4.4), "grief": samples(1.6), "twin": samples(3)}), "original"
    )
    assert {c.model: c.finding for c in verdict.contrasts} == {
        "joy": "better",
        "grief": "worse",
        "twin": "inconclusive",
    }
    said = " ".join(verdict.statements())
    assert "joy is rated better than the original" in said
    assert "p < 0.001" in said
    assert "twin against the original: inconclusive" in said
    assert "no difference" not in said
    partial = judge(rows({"original": samples(3), "joy": samples(4)}), "original", unrated=3)
    assert "PARTIAL: 3 ratings are missing" in " ".join(partial.statements())


def test_too_little_to_judge() -> None:
    with pytest.raises(InputError, match="samples of one model only"):
        judge(rows({"original": [[1], [2]]}), "original")
    with pytest.raises(InputError, match="fewer than two rated samples of joy"):
        judge(rows({"original": [[1], [2]], "joy": [[3]]}), "original")


def test_welch_interval_by_hand() -> None:
    # Means 4 and 2, both s² = 1 with n = 3: se = √(2/3), 4 degrees of freedom, t = 2.776.
    low, high = welch_interval(np.array([3.0, 4.0, 5.0]), np.array([1.0, 2.0, 3.0]))
    assert (low, high) == pytest.approx((2 - 2.776 * math.sqrt(2 / 3), 2 + 2.776 * math.sqrt(2 / 3)), abs=1e-3)
    assert welch_interval(np.array([3.0, 3.0]), np.array([1.0, 1.0])) == (2, 2)


def simulated_rejections(samples: int, effect: float, raters: Raters, studies: int, seed: int = 0) -> float:
    generator = np.random.default_rng(seed)
    low, high = quality_pair(effect, raters)

    def group(quality: float) -> list[Fraction]:
        ratings = raters.ratings(generator, generator.normal(quality, raters.sample_sd, samples))
        return [Fraction(int(total), raters.count) for total in ratings.sum(axis=1)]

    return sum(permutation_p(group(high), group(low)) <= 0.05 for _ in range(studies)) / studies


def test_null_studies_are_seldom_rejected() -> None:
    assert simulated_rejections(20, 0.0, Raters(), 1000) <= 0.064


@pytest.mark.slow
@pytest.mark.parametrize(
    ("samples", "effect", "raters"), [(20, 0.5, Raters()), (20, 0.9, Raters()), (20, 0.8, Raters(count=3))]
)
def test_planned_power_is_that_of_simulated_studies(samples: int, effect: float, raters: Raters) -> None:
    assert power(samples, effect, raters) == pytest.approx(
        simulated_rejections(samples, effect, raters, 10_000), abs=0.02
    )


def test_the_plan() -> None:
    plan = plan_study(20, 0.5, Raters())
    assert plan.smallest_effect is not None
    assert power(20, plan.smallest_effect, Raters()) == pytest.approx(0.8, abs=1e-3)
    assert plan.needed is not None
    assert power(plan.needed, 0.5, Raters()) >= 0.8 > power(plan.needed - 1, 0.5, Raters())
    assert plan.needed > 20
    assert plan_study(20, 0.5, Raters(), models=3).power < plan.power  # Holm has its price
    assert plan_study(20, 0.5, Raters(count=3)).power > plan.power
    assert needed(0.001, Raters()) is None
    assert "80 % power" in " ".join(plan.statements())
    assert rating_probabilities(np.array([3.0]), 0.7).sum() == pytest.approx(1)
    assert rating_probabilities(np.array([4.2]), 0.0).tolist() == [[0, 0, 0, 1, 0]]
