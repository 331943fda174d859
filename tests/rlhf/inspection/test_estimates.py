"""Means, errors, the joint bootstrap, the straight line through √KL."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rlhf.inspection.estimates import Estimate, bootstrap_means, mean_estimate, percentile_interval, score_matrix
from rlhf.inspection.straightness import fieller, straightness, went_back
from rlhf.runs.ladder import Rung


def test_mean_and_error_by_hand() -> None:
    # 1, 2, 6: mean 3, s² = (4 + 1 + 9)/2 = 7, se = √(7/3).
    estimate = mean_estimate([1.0, None, 2.0, 6.0])
    assert estimate == Estimate(3.0, pytest.approx(math.sqrt(7 / 3)), 3)
    assert estimate.se != pytest.approx(math.sqrt(14 / 3 / 3))  # not the population's deviation
    assert estimate.text() == "3.00 ± 1.53 (n = 3)"


def test_mean_of_nothing_and_of_one() -> None:
    assert mean_estimate([None, None]) is None
    assert mean_estimate([2.0]) == Estimate(2.0, None, 1)


def test_the_bootstrap_resamples_all_rungs_together() -> None:
    noise = np.random.default_rng(1).normal(size=400)
    means = bootstrap_means(np.stack([noise, noise + 0.5]))
    # The shared noise cancels in the difference; resampling each rung alone would leave √2·0.05.
    assert np.ptp(means[:, 1] - means[:, 0]) < 1e-9
    assert means[:, 0].std() == pytest.approx(noise.std() / 20, rel=0.1)


def test_unscored_samples_are_left_out_not_zero() -> None:
    scores = score_matrix([[1.0, None, 1.0, 1.0], [2.0, 2.0, None, 2.0, 9.0]])
    assert scores.shape == (2, 4)  # the fifth has no partner
    means = bootstrap_means(scores, draws=200)
    assert np.nanmax(np.abs(means - [1.0, 2.0])) == 0
    assert percentile_interval(means[:, 1]) == (2.0, 2.0)


def test_a_straight_line_and_a_bent_one() -> None:
    steps = list(range(0, 200, 10))
    straight = straightness(steps, [0.1 * s for s in steps])
    assert straight is not None
    assert straight.r_squared == pytest.approx(1)
    assert straight.slope_ratio == pytest.approx(1)
    bent = straightness(steps, [math.sqrt(s) for s in steps])
    assert bent is not None
    assert bent.slope_ratio is not None
    assert bent.slope_ratio < 0.6
    assert "R² =" in bent.text()
    assert straightness([1, 2, 3], [1, 2, 3]) is None


def test_fieller_covers_the_ratio() -> None:
    generator = np.random.default_rng(2)
    hits = 0
    for _ in range(2000):
        a, b = generator.normal(1.2, 0.2), generator.normal(1.0, 0.15)
        interval = fieller(a, 0.2, b, 0.15, 1.96)
        hits += interval is not None and interval[0] <= 1.2 <= interval[1]
    assert hits / 2000 == pytest.approx(0.95, abs=0.02)
    assert fieller(1.0, 0.1, 0.1, 0.2, 1.96) is None  # the denominator may be zero


def rung(iteration: int, kl: float, reward: float, error: float = 0.01) -> Rung:
    place = {"path": "checkpoints/r", "samples": "samples/r"}
    return Rung("r", None, kl, 0.1, iteration, 0, 0, reward, error, 256, **place)


def test_a_kl_that_went_back_while_the_reward_moved_is_told() -> None:
    rising = [rung(0, 0.0, -1.0), rung(3, 4.0, -0.26), rung(5, 5.31, -0.23)]
    assert went_back(rising) is None
    assert went_back([*rising, rung(30, 4.77, -0.22)]) is None  # back, and as good as before
    told = went_back([*rising, rung(30, 4.77, -0.13), rung(31, 4.5, -0.15)])
    assert told is not None
    assert told.startswith(
        "KL went back while the reward moved: iteration 5 has 5.31 ± 0.10 nats and a reward of "
        "-0.230 ± 0.010, iteration 30 has 4.77 ± 0.10 nats and a reward of -0.130 ± 0.010."
    )
