"""Accuracy, intervals and calibration against values derived by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rewards.calibration import (
    accuracy,
    expected_calibration_error,
    reliability_table,
    sigmoid,
)
from rewards.held_out import HeldOut, best_temperature, cross_entropy, join
from rlhf.foundation.proportion import wilson

EXACT = 1e-12


def test_wilson_by_hand() -> None:
    # 8 of 10, z = 2: centre (0.8 + 4/20)/(1 + 0.4) = 1/1.4; half 2 √(0.16/10 + 4/400)/1.4 = 2 √0.026/1.4.
    found = wilson(8, 10, z=2)
    assert found.share == 0.8
    assert found.low == pytest.approx(1 / 1.4 - 2 * math.sqrt(0.026) / 1.4, abs=EXACT)
    assert found.high == pytest.approx(1 / 1.4 + 2 * math.sqrt(0.026) / 1.4, abs=EXACT)
    # The textbook (Wald) interval 0.8 ± 2 √0.016 is another one.
    assert abs(found.low - (0.8 - 2 * math.sqrt(0.016))) > 0.01


def test_wilson_at_the_edges() -> None:
    assert wilson(0, 5).low == 0.0
    assert wilson(5, 5).high == 1.0
    assert wilson(5, 5).low > 0.5
    assert math.isnan(wilson(0, 0).share)


def test_accuracy_leaves_neutral_out_and_halves_ties() -> None:
    log_odds = np.array([2.0, -1.0, 3.0, 0.0, -5.0])
    targets = np.array([1.0, 0.75, 0.5, 0.0, 0.0])
    # Judged: right, wrong, (neutral), tie, right: 2.5 of 4.
    assert accuracy(log_odds, targets)[:2] == (0.625, 4)


def test_calibration_by_hand() -> None:
    probabilities = np.array([0.9, 0.1, 0.7, 0.3])
    targets = np.array([1.0, 0.5, 0.0, 0.0])
    table = reliability_table(probabilities, targets, n_bins=2)
    # In order: 0.1 0.3 | 0.7 0.9, labelled 0.5 0 | 0 1; means 0.2 against 0.25, 0.8 against 0.5.
    assert [row.n for row in table] == [2, 2]
    assert [row.predicted for row in table] == pytest.approx([0.2, 0.8])
    assert [row.labelled for row in table] == pytest.approx([0.25, 0.5])
    assert expected_calibration_error(table) == pytest.approx(0.5 * 0.05 + 0.5 * 0.3)


def test_bins_have_equal_mass_and_never_outnumber_texts() -> None:
    table = reliability_table(np.linspace(0, 1, 23), np.zeros(23), n_bins=10)
    assert sorted(row.n for row in table) == [2] * 7 + [3] * 3
    assert len(reliability_table(np.array([0.4]), np.array([1.0]))) == 1


def test_sigmoid_does_not_overflow() -> None:
    assert sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist() == [0.0, 0.5, 1.0]


def test_cross_entropy_by_hand() -> None:
    # d = 0: log 2 whatever the target; d = log 3 (p = 3/4), t = 1: -log 3/4; with t = 0: -log 1/4.
    assert cross_entropy(np.array([0.0]), np.array([0.3])) == pytest.approx(math.log(2))
    assert cross_entropy(np.array([math.log(3)]), np.array([1.0])) == pytest.approx(-math.log(0.75))
    assert cross_entropy(np.array([math.log(3)]), np.array([0.0])) == pytest.approx(-math.log(0.25))


def test_temperature_undoes_overconfidence() -> None:
    # The truth is p = 3/4 above and 1/4 below; the model says ±2 log 3, twice too sure.
    truth = np.log(3.0)
    held_out = HeldOut(np.array([2 * truth] * 4 + [-2 * truth] * 4), np.array([1, 1, 1, 0.0, 0, 0, 0, 1]))
    assert best_temperature(held_out) == pytest.approx(2.0, rel=1e-3)
    assert cross_entropy(held_out.rescaled(2.0).log_odds, held_out.targets) < cross_entropy(
        held_out.log_odds, held_out.targets
    )


def test_better_than_chance_means_better_than_the_majority() -> None:
    # 40 of 50 texts are positive; a model that always says positive reaches 80 % and knows nothing.
    targets = np.array([1.0] * 40 + [0.0] * 10)
    assert not HeldOut(np.ones(50), targets).better_than_chance
    assert HeldOut(np.where(targets > 0.5, 1.0, -1.0), targets).better_than_chance
    assert HeldOut(np.ones(50), targets).association_p == 1.0
    assert HeldOut(np.ones(50), targets).majority_share.share == 0.8
    assert HeldOut(np.ones(50), 1 - targets).majority_share.share == 0.8


def test_telling_the_classes_apart_counts_where_one_is_rare() -> None:
    # 143 of 177 positive; 131 of those and 21 of the 34 others right: accuracy 85.9 %, its interval down to 80 %.
    targets = np.repeat([1.0, 0.0], [143, 34])
    said = np.repeat([1.0, -1.0, -1.0, 1.0], [131, 12, 21, 13])
    informed = HeldOut(said, targets)
    assert informed.accuracy.low < informed.majority_share.share
    assert informed.association_p < 1e-6
    assert informed.better_than_chance
    # As many negatives said, but blindly: 27 and 6 of the 33 fall as the classes do.
    blind = HeldOut(np.repeat([1.0, -1.0, -1.0, 1.0], [116, 27, 6, 28]), targets)
    assert blind.association_p > 0.3
    assert not blind.better_than_chance


def test_a_guess_is_seldom_better_than_chance() -> None:
    rng = np.random.default_rng(0)
    guesses = [HeldOut(rng.choice([-1.0, 1.0], 150), (rng.random(150) < 0.7).astype(float)) for _ in range(1000)]
    assert sum(guess.better_than_chance for guess in guesses) <= 35  # 25 expected at most


def test_folds_join() -> None:
    one, two = HeldOut(np.array([1.0]), np.array([1.0])), HeldOut(np.array([-1.0]), np.array([1.0]))
    assert join([one, two]).accuracy.share == 0.5
