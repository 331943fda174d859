"""A run ends, or is held nearer, once a reward that it is not paid for has turned down; the same when resumed."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from rewards.rules import full_stop
from rlhf import PPOConfig, PPOTrainer
from rlhf.foundation.errors import InputError
from rlhf.ppo.guard import LEAST_BETA, Guard
from rlhf.ppo.kl_control import KLController

SMALL: dict[str, Any] = {
    "iteration_batch_size": 64, "max_iteration_batch_size": 64, "minibatch_size": 32, "max_completion_length": 12,
    "learning_rate": 3e-3, "num_eval_samples": 64, "normalization_samples": 64, "kl_budget": 30.0, "quiet": True,
    "max_iterations": 14, "ladder_step": 0.25, "reward_weights": [1.0, 0.0],
}  # fmt: skip


NOTHING = torch.nn.Module()
NO_ENSEMBLE = torch.zeros(0, 2, 128)


def a_few(completions: list[Any], **_: Any) -> list[float]:
    """Best at two full stops: what a policy that is paid for more of them leaves behind."""
    return [-abs(2.0 - completion.count(".")) for completion in completions]


def train(model: Any, tokenizer: Any, directory: Path, **options: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    config = PPOConfig(output_dir=str(directory), **{**SMALL, "guard": "a_few", **options})
    run = PPOTrainer(model, [full_stop, a_few], config, processing_class=tokenizer).train()
    lines = [json.loads(line) for line in (run.directory / "metrics.jsonl").read_text().splitlines()]
    lines = [{key: x for key, x in line.items() if not key.startswith("seconds/")} for line in lines]
    return lines, json.loads((run.directory / "run.json").read_text())


def test_the_run_halts_once_the_watched_reward_has_turned(build_model: Any, tokenizer: Any, tmp_path: Path) -> None:
    lines, facts = train(build_model(), tokenizer, tmp_path / "run")
    assert facts["status"] == "finished"
    assert facts["stop_reason"].startswith("guard: a_few stops rising at ")
    assert "The rung nearest to it is kl-" in facts["stop_reason"]
    assert len(lines) < 1 + SMALL["max_iterations"]
    said = [line["guard"]["status"] for line in lines if line["guard"]]
    assert said[-1] == "onset"
    assert "onset" not in said[:-1]
    ladder = json.loads((tmp_path / "run" / "ladder.json").read_text())["rungs"]
    assert all((tmp_path / "run" / rung["path"]).is_dir() for rung in ladder)
    near = facts["stop_reason"].removesuffix(".").rsplit(" ", 1)[1]
    watched = {}
    for rung in ladder:
        rows = (tmp_path / "run" / rung["samples"]).read_text().splitlines()
        watched[rung["name"]] = np.mean(a_few([json.loads(row)["completion"] for row in rows]))
    assert watched[near] > watched[ladder[-1]["name"]]  # by the texts on the disk


def test_a_run_cut_in_half_halts_at_the_same_rung(build_model: Any, tokenizer: Any, tmp_path: Path) -> None:
    whole, facts = train(build_model(), tokenizer, tmp_path / "whole")
    half = len(whole) // 2
    train(build_model(), tokenizer, tmp_path / "cut", max_iterations=half)
    cut, again = train(build_model(), tokenizer, tmp_path / "cut", resume=True)
    assert again["stop_reason"] == facts["stop_reason"]
    assert cut == whole


def test_a_halted_run_goes_on_without_a_guard_as_one_that_never_had_it(
    build_model: Any, tokenizer: Any, tmp_path: Path
) -> None:
    free, facts = train(build_model(), tokenizer, tmp_path / "free", guard=None)
    halted, _ = train(build_model(), tokenizer, tmp_path / "run")
    assert len(halted) < len(free)
    gone_on, again = train(build_model(), tokenizer, tmp_path / "run", guard=None, resume=True)
    assert again["stop_reason"] == facts["stop_reason"]
    assert [{**line, "guard": None} for line in gone_on] == free
    other, _ = train(build_model(), tokenizer, tmp_path / "run", guard="full_stop", resume=True, max_iterations=16)
    said = [line["guard"] for line in other[len(free) - 1 :] if line["guard"]]
    assert {one["status"] for one in said} <= {
        "too_few_rungs",
        "none_seen",
    }  # nothing of a_few's course is taken for its


def test_beta_rises_at_every_rung_beyond_the_turn_so_that_its_nats_do_not_pay(
    build_model: Any, tokenizer: Any, tmp_path: Path
) -> None:
    lines, facts = train(
        build_model(), tokenizer, tmp_path / "run", guard_action="raise_beta", beta=0.01, beta_decay=0.5
    )
    assert not facts["stop_reason"].startswith("guard")
    raised = [line for line in lines if "beta" in (line["guard"] or {})]  # not where the run ends anyhow
    assert len(raised) > 1
    rungs = json.loads((tmp_path / "run" / "ladder.json").read_text())["rungs"]

    def watched(rung: dict[str, Any]) -> float:
        rows = (tmp_path / "run" / rung["samples"]).read_text().splitlines()
        return float(np.mean(a_few([json.loads(row)["completion"] for row in rows])))

    for line in raised:
        sofar = [rung for rung in rungs if rung["iteration"] <= line["iteration"]]
        best, last = max(sofar, key=watched), sofar[-1]
        assert last["iteration"] == line["iteration"]
        nats = last["kl_per_completion"] - best["kl_per_completion"]
        earned = (last["reward"] - best["reward"]) / facts["normalization"]["scale"] / nats
        falls = 0.5 if line is raised[0] else 1.0
        before = falls * lines[line["iteration"] - 1]["beta"]
        assert line["guard"]["beta"] == line["beta"] == pytest.approx(max(2 * before, earned, LEAST_BETA))
    assert raised[0]["beta"] > LEAST_BETA  # the nats beyond did earn
    after = [line["beta"] for line in lines[raised[0]["iteration"] + 1 :]]
    assert after == sorted(after)  # it does not fall again


def along(
    guard: Guard,
    beta: KLController,
    means: list[float],
    seed: int,
    count: int = 128,
    order: Sequence[int] | None = None,
) -> str | None:
    """A ladder at equal steps of √KL whose watched reward has these means; what the guard first said of a rung.

    `order` is that of training, from low KL to high if not given.
    """
    shared = np.random.default_rng(seed).standard_normal(count)
    said = None
    for number in order or range(len(means)):
        mean = means[number]
        own = np.random.default_rng([seed, number]).standard_normal(count)
        watched = torch.tensor(mean + 0.6 * shared + 0.8 * own)
        rollout: Any = SimpleNamespace(
            reward_values=torch.stack([torch.ones(count) * number, watched]),
            rewards=torch.ones(count) * number,
            members=NO_ENSEMBLE,
        )
        rung: Any = SimpleNamespace(name=f"kl-{number}", kl_per_completion=(number / 3) ** 2)
        found = guard.read(rung, rollout, beta, NOTHING)
        said = said or found
    return said


def guard() -> Guard:
    return Guard("watched", 1, "halt")


def test_chance_seldom_halts_a_run_and_a_fall_does() -> None:
    risen = [1 - math.exp(-i / 3) for i in range(12)]
    fallen = [math.sin(math.pi * i / 11) for i in range(12)]
    halted = {
        name: sum(along(guard(), KLController(0.0, None, 1), means, seed) is not None for seed in range(40))
        for name, means in (("risen", risen), ("fallen", fallen))
    }
    assert halted["risen"] <= 4, halted
    assert halted["fallen"] >= 39, halted


def test_rungs_are_read_by_their_kl_in_whatever_order_they_came() -> None:
    risen = [1 - math.exp(-i / 3) for i in range(12)]
    rising, zigzag = guard(), guard()
    assert along(rising, KLController(0.0, None, 1), risen, 0) is None
    back_and_forth = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 11]
    assert along(zigzag, KLController(0.0, None, 1), risen, 0, order=back_and_forth) is None
    assert zigzag.said == rising.said
    # The same twelve rungs of a fall, the farthest one the first or the last that came: what is said is the same.
    fallen, said = [math.sin(math.pi * i / 11) for i in range(12)], []
    for order in (list(range(12)), [11, *range(11)]):
        one = guard()
        along(one, KLController(0.0, None, 1), fallen, 0, order=order[:-1])
        said.append(along(one, KLController(0.0, None, 1), fallen, 0, order=order[-1:]))
    assert said[0] is not None
    assert said[0] == said[1]


def test_what_has_no_score_is_left_out_and_a_state_can_hold_it() -> None:
    holed, whole = guard(), guard()
    rewards = torch.arange(128, dtype=torch.float64)
    for number in range(5):
        scores = torch.stack([rewards, -(((number - 2) * rewards) ** 2)])
        rung: Any = SimpleNamespace(name=f"kl-{number}", kl_per_completion=float(number))
        for one, values in ((whole, scores), (holed, torch.where(torch.arange(128) == 3, math.nan, scores))):
            rollout: Any = SimpleNamespace(reward_values=values, rewards=rewards, members=NO_ENSEMBLE)
            one.read(rung, rollout, KLController(0.0, None, 1), NOTHING)
    assert [course["watched"][3] for course in holed.courses] == [None] * 5
    assert json.loads(json.dumps(holed.courses, allow_nan=False)) == holed.courses
    assert holed.said is not None
    assert whole.said is not None
    assert holed.said["status"] == whole.said["status"]
    assert math.isfinite(holed.said["fall"])


def test_a_guard_that_is_no_reward_is_refused(build_model: Any, tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--guard: got 'judge'; expected a reward of this run: full_stop, a_few"):
        train(build_model(), tokenizer, tmp_path / "run", guard="judge")
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="guard_action"):
        PPOConfig(output_dir="x", guard_action="raise_beta")


def test_a_state_of_another_guard_or_an_earlier_version_begins_anew_or_goes_on() -> None:
    courses = [{"of": "watched", "name": "kl-1", "d": 1.0, "watched": [1.0], "paid": [1.0]}]
    weights = {"w/best": torch.ones(2), "w/exp_avg": torch.zeros(2), "w/before": torch.zeros(2)}
    whole = {"courses": courses, "best": "kl-1", "times_back": 2}
    for action, state, best, times in (
        ("roll_back", whole, "kl-1", 2),
        ("roll_back", courses, None, 0),  # before there was a way back
        ("roll_back", None, None, 0),
        ("halt", whole, None, 0),
    ):
        one = Guard("watched", 1, action)
        one.restore(state, weights)
        assert (one.best, one.times_back, one.courses) == (best, times, [] if state is None else courses)
        assert torch.equal(one.tensors().get("w/best", torch.ones(2)), torch.ones(2))
        assert set(one.tensors()) <= {"w/best"}
    other = Guard("judge", 1, "roll_back")
    other.restore(whole, weights)
    assert other.state() == {"courses": [], "best": None, "times_back": 0}
    assert other.tensors() == {}


def test_a_guard_that_scores_nothing_is_refused_in_a_line() -> None:
    rollout: Any = SimpleNamespace(
        reward_values=torch.full((2, 128), math.nan), rewards=torch.ones(128), members=NO_ENSEMBLE
    )
    rung: Any = SimpleNamespace(name="kl-1", kl_per_completion=1.0)
    with pytest.raises(InputError, match="0 of 128 completions scored in what --guard watches, watched, on rung kl-1"):
        guard().read(rung, rollout, KLController(0.0, None, 1), NOTHING)
