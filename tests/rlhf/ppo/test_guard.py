"""A run ends, or is held nearer, once a reward that it is not paid for has turned down; the same when resumed."""

from __future__ import annotations

import json
import math
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


def test_beta_doubles_at_every_rung_beyond_the_turn(build_model: Any, tokenizer: Any, tmp_path: Path) -> None:
    lines, facts = train(build_model(), tokenizer, tmp_path / "run", guard_action="raise_beta")
    assert not facts["stop_reason"].startswith("guard")
    raised = [line["guard"]["beta"] for line in lines if (line["guard"] or {}).get("status") == "onset"]
    assert raised == [LEAST_BETA * 2**i for i in range(len(raised))]
    assert len(raised) > 1
    assert lines[-1]["beta"] == raised[-1]


def along(guard: Guard, beta: KLController, means: list[float], seed: int, count: int = 128) -> str | None:
    """A ladder at equal steps of √KL whose watched reward has these means; what the guard said of its last rung."""
    shared = np.random.default_rng(seed).standard_normal(count)
    said = None
    for number, mean in enumerate(means):
        own = np.random.default_rng([seed, number]).standard_normal(count)
        watched = torch.tensor(mean + 0.6 * shared + 0.8 * own)
        rollout: Any = SimpleNamespace(
            reward_values=torch.stack([torch.ones(count) * number, watched]),
            rewards=torch.ones(count) * number,
            members=None,
        )
        rung: Any = SimpleNamespace(name=f"kl-{number}", kl_per_completion=(number / 3) ** 2)
        said = said or guard.read(rung, rollout, beta, NOTHING)
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


def test_what_has_no_score_is_left_out_and_a_state_can_hold_it() -> None:
    holed, whole = guard(), guard()
    rewards = torch.arange(128, dtype=torch.float64)
    for number in range(5):
        scores = torch.stack([rewards, -(((number - 2) * rewards) ** 2)])
        rung: Any = SimpleNamespace(name=f"kl-{number}", kl_per_completion=float(number))
        for one, values in ((whole, scores), (holed, torch.where(torch.arange(128) == 3, math.nan, scores))):
            rollout: Any = SimpleNamespace(reward_values=values, rewards=rewards, members=None)
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
