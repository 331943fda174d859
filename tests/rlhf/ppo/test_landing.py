"""The final rung stands within 3 % of the KL budget: predicted, shortened, taken back; the same when resumed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from rewards.rules import full_stop
from rlhf import PPOConfig, PPOTrainer
from rlhf.ppo.landing import Landing, way_of
from rlhf.runs.ladder import read_rungs

SMALL: dict[str, Any] = {
    "iteration_batch_size": 64, "max_iteration_batch_size": 64, "minibatch_size": 32, "max_completion_length": 12,
    "learning_rate": 3e-3, "num_eval_samples": 64, "normalization_samples": 64, "kl_budget": 2.0, "quiet": True,
    "max_iterations": 30,
}  # fmt: skip


def config(directory: Path, **options: Any) -> PPOConfig:
    return PPOConfig(output_dir=str(directory), **{**SMALL, **options})


def lines(run: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith("seconds/")} for row in rows]


def test_the_share_by_hand() -> None:
    landing = Landing(9.0, points=[[0.0, 1.0], [1.0, 1.5], [2.0, 2.0]])  # half a root nat a unit of way
    assert landing.share(1.0) == 1.0  # ends at 2.5² = 6.25
    assert landing.share(2.0) == 1.0  # ends at 9.00
    assert landing.share(4.0) == pytest.approx(0.5)  # would end at 16
    assert landing.share(400.0) == pytest.approx(0.1)  # never less: what is left would take for ever


def test_the_way_counts_the_warm_up() -> None:
    args = PPOConfig(output_dir="-", warmup_steps=3)
    assert way_of(2, 1, 1e-2, args) == pytest.approx(1e-2 * (2 / 4 + 3 / 4))
    assert way_of(2, 9, 1e-2, args) == pytest.approx(2e-2)


def test_an_update_that_may_go_too_far_is_kept_and_taken_back_on_the_straight_line() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    landing = Landing(4.0)
    landing.read(1.0)
    assert landing.prepare(model, 64, 0, 1e-2, PPOConfig(output_dir="-")) is None
    nn.init.constant_(model.weight, 3.0)
    landing.way = 1.0
    assert landing.too_far(16.0)
    assert not landing.too_far(4.08)
    move = landing.step_back(model, 16.0)  # from root 1 to root 4: the budget's root, 2, is a third of the way
    assert move.share == pytest.approx(1 / 3)
    assert model.weight.item() == pytest.approx(1 + 2 / 3)
    assert landing.way == pytest.approx(1 / 3)


def test_far_from_the_budget_nothing_is_kept() -> None:
    model, args = nn.Linear(1, 1), PPOConfig(output_dir="-")
    landing = Landing(100.0, points=[[0.0, 0.0], [0.1, 0.1]], way=0.1)
    assert landing.prepare(model, 128, 4, 0.1, args) is None  # one step of 0.1: ends at 0.2² of 100 nats
    assert landing.before is None
    assert landing.tensors() == {}
    assert not landing.too_far(400.0)  # there is no way back


@pytest.mark.parametrize("rate", [3e-3, 1e-1])
def test_the_final_rung_stands_at_the_budget_whatever_the_rate(
    build_model: Callable[..., Any], tokenizer: Any, tmp_path: Path, rate: float
) -> None:
    PPOTrainer(
        build_model(), full_stop, config(tmp_path / "run", learning_rate=rate), processing_class=tokenizer
    ).train()
    last = read_rungs(tmp_path / "run" / "ladder.json")[-1]
    assert last.name == "kl-02.00"
    assert last.kl_per_completion == pytest.approx(2.0, rel=0.03)
    rows = lines(tmp_path / "run")
    taken_back = [row for row in rows if (row["kl_landing"] or {}).get("action") == "step_back"]
    assert taken_back  # two of these steps are too many at each of these rates
    assert all(row["clip_ratio/outside_mean"] is None for row in taken_back)  # no update was made of it
    assert all(row["controller"] is None for row in rows if row["kl_landing"])


@pytest.mark.slow
def test_stopped_at_any_iteration_it_lands_the_same(
    build_model: Callable[..., Any], tokenizer: Any, tmp_path: Path
) -> None:
    def run(name: str, stops: bool, resume: bool = False) -> Path:
        options = config(tmp_path / name, learning_rate=1e-2, resume=resume)
        trainer = PPOTrainer(build_model(), full_stop, options, processing_class=tokenizer)
        while trainer.stop_reason is None:
            trainer.step(trainer.rollout())
            if stops:
                break
        trainer.close()
        return tmp_path / name if trainer.stop_reason else run(name, stops, resume=True)

    whole, cut = run("whole", stops=False), run("cut", stops=True)
    assert {(row["kl_landing"] or {}).get("action") for row in lines(whole)} >= {"step_back"}
    drop = ("accepted_changes",)
    assert [{k: v for k, v in row.items() if k not in drop} for row in lines(whole)] == [
        {k: v for k, v in row.items() if k not in drop} for row in lines(cut)
    ]
    first, second = (read_rungs(path / "ladder.json") for path in (whole, cut))
    assert [(r.name, r.kl_per_completion, r.files) for r in first] == [
        (r.name, r.kl_per_completion, r.files) for r in second
    ]


def test_a_policy_that_cannot_be_taken_back_is_told_and_named_by_its_own_kl() -> None:
    from rlhf.runs.ladder import Ladder

    landing = Landing(10.0, points=[[0.0, 1.0], [1.0, 1.1]])
    assert landing.arrived(28.6)  # nothing was kept
    ladder = Ladder(Path("-"), step=0.25, budget=10.0)
    assert ladder.name_for(math.sqrt(10), 28.6) == "kl-28.60"
    assert ladder.name_for(1.0, 2.5) == "kl-02.50"  # between: more than a step from its target
    assert ladder.name_for(1.0, 1.4) == "kl-01.00"
