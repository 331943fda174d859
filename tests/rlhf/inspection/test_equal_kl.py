"""PPO against best-of-n at the same KL."""

from __future__ import annotations

import json

import pytest

from rlhf.inspection.equal_kl import at_equal_kl, first_reach
from rlhf.inspection.evaluation import evaluate_run

from .conftest import MakeRun


def test_where_a_curve_first_reaches_a_level() -> None:
    # Between √KL 1 and 2 the line runs from 0.2 to 0.6; 0.3 is a quarter of the way: √KL 1.25, 1.5625 nats.
    assert first_reach([0, 1, 2], [0.0, 0.2, 0.6], 0.3) == pytest.approx(1.5625)
    assert first_reach([0, 1, 2], [0.0, 0.2, 0.6], 0.7) is None
    assert first_reach([0, 1], [0.5, 0.2], 0.3) == 0


def test_ppo_is_worth_its_kl_when_its_reward_grows_faster(make_run: MakeRun) -> None:
    # Proxy grows by 1 per √nat with PPO; best-of-n of noise with s = 0.54 gains 0.54·2.8 at √4.5.
    evaluation = evaluate_run(make_run(samples=2000, rungs=9))
    found = at_equal_kl(evaluation, "proxy")
    assert found is not None
    assert found.n == 256  # weights fall geometrically: 2N/n = 16 effective samples; n = 512 rests on 8, too few
    assert found.ppo == pytest.approx(found.kl**0.5, abs=0.1)
    assert found.difference < 0
    assert found.statement().startswith("Is PPO worth its KL? Yes: at 4.5 nats best-of-256 has proxy")


def test_best_of_n_wins_when_ppo_gains_little(make_run: MakeRun) -> None:
    evaluation = evaluate_run(make_run(samples=2000, rungs=9, gold=lambda d: 0.05 * d))
    found = at_equal_kl(evaluation, "gold")
    assert found is not None
    assert found.difference > 0
    assert found.ppo_kl is None
    assert "No: " in found.statement()
    assert "rlhf sample --best_of 256" in found.statement()


def test_tied_rewards_make_the_kl_a_bound(make_run: MakeRun) -> None:
    run = make_run(samples=400, rungs=5)
    for path in (run / "samples").iterdir():
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({**row, "reward": float(round(row["reward"]))}) + "\n" for row in rows))
    found = at_equal_kl(evaluate_run(run), "gold")
    assert found is not None
    assert "at no more than" in found.statement()


def test_too_little_to_compare(make_run: MakeRun) -> None:
    assert at_equal_kl(evaluate_run(make_run("one", rungs=1)), "proxy") is None
    assert at_equal_kl(evaluate_run(make_run("few", samples=8)), "proxy") is None
