"""Which rung is recommended, and what is said about it."""

from __future__ import annotations

import json

from rlhf.inspection.evaluation import evaluate_run
from rlhf.inspection.recommendation import recommend

from .conftest import MakeRun


def test_gold_picks_the_cheapest_rung_as_good_as_the_best(make_run: MakeRun) -> None:
    # Gold rises until √KL = 1.05 and then stays: the rungs after it cost KL for nothing.
    advice = recommend(evaluate_run(make_run(samples=400, gold=lambda d: min(d, 1.0))))
    assert advice is not None
    assert advice.used_gold
    assert advice.rung == "kl-01.11"
    assert "Keep kl-01.11 (by gold)" in advice.text()
    assert "confirm it on others" in advice.text()


def test_a_falling_gold_keeps_the_original(make_run: MakeRun) -> None:
    advice = recommend(evaluate_run(make_run(samples=400, gold=lambda d: -d)))
    assert advice is not None
    assert advice.rung == "kl-00.00"


def test_without_gold_it_says_so_and_minds_diversity(make_run: MakeRun) -> None:
    run = make_run(samples=200, gold=None)
    advice = recommend(evaluate_run(run))
    assert advice is not None
    assert not advice.used_gold
    # The proxy grows evenly with √KL: 80 % of the gain is reached at 0.8·√10 = 2.53, whose rung is √6.94 = 2.64.
    assert advice.rung == "kl-06.94"
    assert "without gold" in advice.text()

    for name in ("kl-06.94", "kl-10.00"):  # these rungs say one thing only
        path = run / "samples" / f"{name}.jsonl"
        rows = [{**json.loads(line), "completion": "joy joy joy"} for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    collapsed = recommend(evaluate_run(run))
    assert collapsed is not None
    assert collapsed.rung == "kl-04.44"


def test_one_rung_is_no_choice(make_run: MakeRun) -> None:
    assert recommend(evaluate_run(make_run(rungs=1))) is None
