"""Win rates against the original, by hand."""

from __future__ import annotations

import pytest

from rlhf.inspection.evaluation import evaluate_run
from rlhf.inspection.win_rate import win_rate, win_rates

from .conftest import MakeRun


def test_by_hand() -> None:
    found = win_rate("kl-01.00", 1.0, [1.0, 2.0, 0.0, 5.0, None], [0.0, 2.0, 1.0, None, 3.0])
    # Three pairs are scored on both sides: won, tied, lost. (1 + 1/2)/3.
    assert (found.rate.share, found.rate.n, found.ties) == (pytest.approx(0.5), 3, 1)
    assert found.text() == "kl-01.00  KL  1.00 nats  wins  50.0% (12.5% to 87.5%, n = 3, 1 ties)"


def test_along_a_ladder_it_rises_with_gold(make_run: MakeRun) -> None:
    evaluation = evaluate_run(make_run(samples=300, gold=lambda d: 0.4 * d))
    rates = win_rates(evaluation, "gold")
    assert [rate.rung for rate in rates] == [rung.name for rung in evaluation.rungs[1:]]
    assert rates[0].rate.share > 0.5
    assert rates[-1].rate.low > 0.95
    assert rates[0].rate.low < rates[0].rate.share < rates[0].rate.high
