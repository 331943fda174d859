"""A run's share of the frontier's gain, on rewards whose frontier is known: a normal one gains √(2 KL)."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rlhf.inspection.best_of_n import best_of_n
from rlhf.inspection.estimates import mean_estimate
from rlhf.inspection.gibbs_frontier import gibbs_frontier
from rlhf.inspection.kl_efficiency import kl_shares, statement


def evaluated(seed: int, shares: dict[float, float], count: int = 200) -> Any:
    """A ladder of a policy that has `shares` of √(2 KL) at these nats, and 800 samples of the original."""
    generator = np.random.default_rng(seed)
    pool = generator.standard_normal(800)
    kls = [0.0, *shares]
    scores = {f"kl-{kl}": {"proxy": list(generator.standard_normal(count))} for kl in kls}
    for kl, share in shares.items():
        scores[f"kl-{kl}"]["proxy"] = [x + share * math.sqrt(2 * kl) for x in scores[f"kl-{kl}"]["proxy"]]
    rungs = [
        SimpleNamespace(name=name, kl=kl, kl_se=0.0, sqrt_kl=math.sqrt(kl), proxy=mean_estimate(of["proxy"]))
        for kl, (name, of) in zip(kls, scores.items(), strict=True)
    ]
    frontier = gibbs_frontier(pool, {}, kls=[1.0])
    return SimpleNamespace(rungs=rungs, scores=scores, frontier=frontier, best_of_n=[best_of_n(pool, {}, 1)])


def test_shares_are_of_the_gain_over_the_original() -> None:
    [found] = kl_shares(evaluated(0, {1.0: 0.7, 2.0: 0.9}, count=20_000))
    assert (found.kl, found.share) == (1.0, pytest.approx(0.7, abs=0.06))
    assert "of the most" in statement(evaluated(0, {1.0: 0.7, 2.0: 0.9})).lower()  # type: ignore[union-attr]
    assert kl_shares(evaluated(0, {0.5: 0.7})) == []  # the ladder ends before a nat


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_the_error_is_that_of_repeated_runs(share: float) -> None:
    found = [kl_shares(evaluated(seed, {1.0: share, 2.0: share}))[0] for seed in range(150)]
    assert np.mean([one.share for one in found]) == pytest.approx(share, abs=0.02)
    for value, error in (("share", "share_se"), ("gain", "gain_se"), ("frontier", "frontier_se")):
        spread = np.std([getattr(one, value) for one in found])
        assert np.mean([getattr(one, error) for one in found]) == pytest.approx(spread, rel=0.2), value


def test_between_two_rungs_the_way_is_straight_along_the_root() -> None:
    evaluation = evaluated(0, {0.25: 1.0, 2.25: 1.0}, count=20_000)  # √KL 0.5 and 1.5: a nat lies in the middle
    [first] = kl_shares(evaluation)
    low, high = (evaluation.rungs[i].proxy.mean for i in (1, 2))
    assert first.gain == pytest.approx((low + high) / 2 - evaluation.best_of_n[0].proxy, abs=1e-9)
