"""Best-of-n from one pool equals the enumeration of all draws."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from rlhf.inspection.best_of_n import best_of_n, best_of_n_curve, best_of_n_kl, share_of_ties, winner_weights

TOLERANCE = 1e-10


def enumerate_winners(proxy: list[float], value: list[float], n: int) -> float:
    """Mean value of the winner over every set of n pool samples; tied winners count equally."""
    means = []
    for chosen in itertools.combinations(range(len(proxy)), n):
        top = max(proxy[i] for i in chosen)
        winners = [value[i] for i in chosen if proxy[i] == top]
        means.append(sum(winners) / len(winners))
    return sum(means) / len(means)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
@pytest.mark.parametrize(
    "proxy", [[0.3, -1.0, 2.0, 0.9, 0.1, -0.4, 1.5, 0.7], [1.0, 0.0, 1.0, 2.0, 2.0, 0.0, 1.0, 2.0]], ids=["all", "ties"]
)
def test_it_equals_enumeration(proxy: list[float], n: int) -> None:
    gold = [5.0, 1.0, -2.0, 0.5, 3.0, 2.5, -1.0, 4.0]
    estimate = best_of_n(np.array(proxy), {"gold": np.array(gold)}, n)
    assert estimate.proxy == pytest.approx(enumerate_winners(proxy, proxy, n), abs=TOLERANCE)
    assert estimate.gold["gold"] == pytest.approx(enumerate_winners(proxy, gold, n), abs=TOLERANCE)


def test_weights_are_probabilities_by_hand() -> None:
    # N = 4, n = 2: the best of the 6 pairs is rank 2 once, rank 3 twice, rank 4 three times.
    weights = winner_weights(np.array([10.0, 30.0, 20.0, 40.0]), 2)
    assert weights == pytest.approx([0, 2 / 6, 1 / 6, 3 / 6], abs=TOLERANCE)
    # With replacement it would be (2i-1)/16: 7/16 for the best, which is biased for a finite pool.
    assert weights[3] != pytest.approx(7 / 16, abs=1e-3)


def test_kl_of_best_of_n() -> None:
    assert best_of_n_kl(1) == 0
    assert best_of_n_kl(64) == pytest.approx(math.log(64) - 63 / 64)  # 3.17 nats
    assert best_of_n_kl(4096) == pytest.approx(7.318, abs=1e-3)


def test_the_curve_stops_where_the_pool_does_and_leaves_missing_scores_out() -> None:
    proxy = np.array([0.1, math.nan, 0.3, 0.2, 0.7, 0.5])
    curve = best_of_n_curve(proxy, {"gold": np.array([1.0, 1.0, math.nan, 1.0, 1.0, 1.0])})
    assert [point.n for point in curve] == [1, 2, 4]  # four samples have both scores
    assert curve[-1].proxy == 0.7
    assert curve[-1].effective_samples == pytest.approx(1)
    with pytest.raises(ValueError, match="size of the pool"):
        best_of_n(proxy[:1], {}, 2)


def test_ties_are_counted() -> None:
    assert share_of_ties(np.array([1.0, 1.0, 2.0, 3.0, math.nan])) == 0.5
    assert share_of_ties(np.array([1.0, 2.0])) == 0
    assert share_of_ties(np.array([math.nan])) == 0


def test_it_is_unbiased_and_its_error_is_right() -> None:
    generator = np.random.default_rng(0)
    # The largest of 4 uniform numbers has mean 4/5.
    estimates = [best_of_n(generator.uniform(size=200), {}, 4, draws=100) for _ in range(200)]
    means = np.array([e.proxy for e in estimates])
    assert means.mean() == pytest.approx(0.8, abs=4 * means.std() / math.sqrt(200))
    assert np.mean([e.proxy_se for e in estimates]) == pytest.approx(means.std(), rel=0.2)
