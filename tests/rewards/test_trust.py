"""The trust report and the guards: by hand, and on rewards with planted faults."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from rewards.guards import distribution_guard, frequencies, jensen_shannon, scale_guard, sign_guard
from rewards.held_out import HeldOut
from rewards.trust import (
    accuracy_by_confidence,
    accuracy_by_margin,
    common_word_effects,
    correlation,
    ranking,
    score_distribution,
    trust_report,
)

from .conftest import toy_text


def test_ranking_by_hand() -> None:
    # Pairs of {3, 1} and {2, 1}: 3>2, 3>1, 1<2, 1=1: 2.5 of 4. Hanley-McNeil: a = 5/8, q1 = a/(2-a) = 5/11,
    # q2 = 2a²/(1+a) = (50/64)/(13/8) = 25/52; variance (a(1-a) + (q1 - a²) + (q2 - a²))/4.
    found = ranking(np.array([3.0, 1.0]), np.array([2.0, 1.0]))
    assert (found.share, found.n) == (0.625, 4)
    variance = (0.625 * 0.375 + (5 / 11 - 0.390625) + (25 / 52 - 0.390625)) / 4
    assert 0.625 - found.low == pytest.approx(1.96 * math.sqrt(variance))


def test_correlation_by_hand() -> None:
    x = np.array([1.0, 2.0, 3.0, 4.0])
    # y = (1, 3, 2, 4): Σ dx dy = 4, Σ dx² = Σ dy² = 5: r = 0.8; z = artanh 0.8 ± 1.96 / √1.
    found = correlation(x, np.array([1.0, 3.0, 2.0, 4.0]))
    assert found is not None
    assert found.r == pytest.approx(0.8)
    assert found.low == pytest.approx(math.tanh(math.atanh(0.8) - 1.96))
    assert correlation(x, np.ones(4)) is None


def test_words_that_go_with_the_score_come_first() -> None:
    texts = [f"the {'plum' if i % 2 else 'pear'} {'and' if i % 3 else 'or'}" for i in range(60)]
    noise = np.random.default_rng(0).normal(size=60)
    effects = common_word_effects(texts, np.array([float(i % 2) for i in range(60)]) * 5 + noise)
    assert {effects[0].word, effects[1].word} == {"plum", "pear"}
    plum = next(effect for effect in effects if effect.word == "plum")
    assert plum.n_with == 30
    assert plum.difference == pytest.approx(5, abs=4 * plum.standard_error)
    assert all(effect.word != "the" for effect in effects)  # in every text: nothing to compare


def test_accuracy_by_margin_and_by_confidence() -> None:
    held_out = HeldOut(np.array([0.1, -0.2, 1.0, -1.1, 3.0, -4.0, 9.0]), np.array([0.0, 1.0, 1.0, 0.25, 1.0, 0.0, 0.5]))
    # Judged in order of margin: 0.1 and 0.2 wrong, 1.0 and 1.1 right, 3 and 4 right; the neutral text is left out.
    groups = accuracy_by_margin(held_out)
    assert [group["accuracy"]["share"] for group in groups] == [0, 1, 1]
    assert groups[1]["log_odds_from"] == 1.0
    by_confidence = accuracy_by_confidence(held_out)
    assert by_confidence["agreed"]["share"] == pytest.approx(3 / 5)
    assert by_confidence["divided"]["n"] == 1


def test_report_with_and_without_samples() -> None:
    held_out = HeldOut(np.array([1.0, -1.0]), np.array([1.0, 0.0]))
    assert "common_words" not in trust_report(held_out, [], None)
    rng = random.Random(0)
    texts = [toy_text(rng) for _ in range(100)]
    report = trust_report(held_out, texts, np.array([-float(len(text)) for text in texts]))
    assert report["correlation_with_length_in_words"]["r"] < -0.9
    assert report["scores_on_base_samples"] == score_distribution(np.array([-float(len(text)) for text in texts]))


def test_sign_guard_sees_a_flipped_reward() -> None:
    targets = np.array([1.0, 0.0] * 30)
    honest = HeldOut(np.where(targets > 0.5, 1.0, -1.0), targets)
    assert sign_guard(honest).passed
    flipped = sign_guard(HeldOut(-honest.log_odds, targets))
    assert not flipped.passed
    assert flipped.value == 0.0


def test_scale_guard_sees_a_degenerate_reward() -> None:
    rng = np.random.default_rng(0)
    assert scale_guard(rng.normal(size=200)).passed
    assert not scale_guard(rng.normal(size=200) * 0.01).passed
    saturated = np.zeros(200)
    saturated[:10] = -5.0  # a spread of 1 nat, but 95 % of the samples are all the same
    assert not scale_guard(saturated).passed


def test_jensen_shannon_by_hand() -> None:
    assert jensen_shannon({"a": 1.0}, {"a": 1.0}) == 0
    assert jensen_shannon({"a": 1.0}, {"b": 1.0}) == pytest.approx(math.log(2))
    # p = (1, 0), q = (1/2, 1/2), m = (3/4, 1/4): ½ log(4/3) + ½ (½ log(2/3) + ½ log 2).
    expected = 0.5 * math.log(4 / 3) + 0.25 * math.log(2 / 3) + 0.25 * math.log(2)
    assert jensen_shannon({"a": 1.0}, {"a": 0.5, "b": 0.5}) == pytest.approx(expected)
    assert frequencies(["A b", "a."]) == {"a": 0.5, "b": 0.25, ".": 0.25}


def test_distribution_guard_sees_samples_of_another_kind() -> None:
    rng = random.Random(0)
    labelled = [toy_text(rng) for _ in range(200)]
    assert distribution_guard(labelled, [toy_text(rng) for _ in range(200)]).passed
    other = distribution_guard(labelled, ["import numpy as np"] * 200)
    assert not other.passed
    assert "100.0% of their words were never labelled" in other.says
