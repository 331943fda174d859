"""Rounds of labelling compared at one KL."""

from __future__ import annotations

import numpy as np
import pytest

from rlhf.foundation.errors import InputError
from rlhf.inspection.evaluation import evaluate_run
from rlhf.inspection.rounds import at_kl, common_kl, compare_rounds, table

from .conftest import MakeRun


def test_scores_between_two_rungs_are_linear_in_the_root_of_kl(make_run: MakeRun) -> None:
    evaluation = evaluate_run(make_run(rungs=5, samples=40, budget=16.0))  # √KL 0, 1, 2, 3, 4
    scores = {rung.name: np.array(evaluation.scores[rung.name]["gold"]) for rung in evaluation.rungs}
    # √2.25 = 1.5: half of the rung at 1 nat and half of the one at 4 nats, sample by sample.
    assert at_kl(evaluation, "gold", 2.25) == pytest.approx((scores["kl-01.00"] + scores["kl-04.00"]) / 2)
    assert at_kl(evaluation, "gold", 4.0) == pytest.approx(scores["kl-04.00"])
    assert at_kl(evaluation, "gold", 16.0) == pytest.approx(scores["kl-16.00"])
    assert at_kl(evaluation, "gold", 0.0) == pytest.approx(scores["kl-00.00"])


def test_a_planted_gain_lies_in_its_interval_and_errors_are_paired(make_run: MakeRun) -> None:
    frozen = evaluate_run(make_run("first", samples=400, budget=10.0, gold=lambda d: 0.2 * d))
    better = evaluate_run(make_run("second", samples=400, budget=12.0, gold=lambda d: 0.3 * d))
    both = {"round 1": frozen, "round 2": better}
    assert common_kl([frozen, better]) == pytest.approx(10.0)
    first, second = compare_rounds(both, {"round 1": 300, "round 2": 600}, gold="gold", frozen="proxy")
    planted = 0.1 * 10**0.5
    assert first.gain.mean == 0
    assert abs(second.gain.mean - planted) < 3 * (second.gain.se or 0)
    # Both runs share the samples' noise (same seed), so the paired error is far below that of two separate means.
    assert second.gain.se is not None
    assert first.gold.se is not None
    assert second.gain.se < 0.8 * 2**0.5 * first.gold.se
    lines = table([first, second], 10.0).splitlines()
    assert "10.00 nats" in lines[0]
    assert lines[-1].startswith("round 2")
    assert "(+0." in lines[-1]


def test_a_ladder_that_never_moved_is_refused(make_run: MakeRun) -> None:
    with pytest.raises(InputError, match="stayed at the original"):
        common_kl([evaluate_run(make_run(rungs=1))])
