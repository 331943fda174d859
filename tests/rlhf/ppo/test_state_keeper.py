"""A state that takes long to write is written seldom; where the last one lies changes nothing of what a run becomes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from rewards.rules import full_stop
from rlhf import PPOConfig, PPOTrainer
from rlhf.ppo import state_keeper
from rlhf.ppo.controller import ClipFractionController
from rlhf.ppo.guard import Guard
from rlhf.ppo.kl_control import KLController
from rlhf.ppo.landing import Landing
from rlhf.ppo.state_keeper import MOST, StateKeeper
from rlhf.runs.ladder import read_rungs

VALUES: dict[str, Any] = {"rungs": []}


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def keeper(tmp_path: Path, clock: Clock, width: int) -> StateKeeper:
    learner = nn.Linear(width, 1, bias=False)
    args = PPOConfig(output_dir="-")
    kl = (KLController(args.beta, args.kl_target, args.kl_horizon), Landing(args.kl_budget), Guard.of(args, []))
    controllers = (ClipFractionController.of(args), *kl)
    return StateKeeper(tmp_path, learner, torch.optim.AdamW(learner.parameters()), *controllers, clock=clock)


def test_a_large_state_takes_its_share_of_the_time_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    large = keeper(tmp_path, clock, 2**23)  # three times 32 MiB
    assert large.size == 3 * 4 * 2**23 > state_keeper.SMALL

    def slow(*_: object) -> None:
        clock.now += 10.0

    monkeypatch.setattr(state_keeper.state, "save_state", slow)
    assert large.due()  # a run must have one state before it can be resumed
    large.save(1, VALUES)
    assert not large.due()
    clock.now += 10.0 / MOST - 0.1
    assert not large.due()
    clock.now += 0.2
    assert large.due()


def test_a_small_state_is_always_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    small = keeper(tmp_path, clock, 8)

    def slow(*_: object) -> None:
        clock.now += 10.0

    monkeypatch.setattr(state_keeper.state, "save_state", slow)
    small.save(1, VALUES)
    assert small.due()


class Killed(Exception):
    """What a killed process leaves, without the process."""


def run(
    build_model: Callable[[], Any], tokenizer: Any, place: Path, *, stop_at: int | None = None, **options: Any
) -> Path:
    config = PPOConfig(
        output_dir=str(place), iteration_batch_size=32, max_iteration_batch_size=32, minibatch_size=16,
        max_completion_length=6, num_eval_samples=16, normalization_samples=32, learning_rate=5e-3, kl_budget=50.0,
        ladder_step=1.5, quiet=True, use_cpu=True, **options,
    )  # fmt: skip
    trainer = PPOTrainer(build_model(), full_stop, config, processing_class=tokenizer)

    def rollout() -> Any:
        if trainer.iteration == stop_at:
            raise Killed
        return PPOTrainer.rollout(trainer)

    trainer.rollout = rollout  # type: ignore[method-assign]
    trainer.train()
    return place


def left(place: Path) -> tuple[Any, ...]:
    """What a run has become: metrics without times, rungs, the last parameters."""
    rows = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
    metrics = [{k: v for k, v in row.items() if not k.startswith("seconds/")} for row in rows]
    rungs = [(rung.name, rung.iteration, rung.kl_per_completion) for rung in read_rungs(place / "ladder.json")]
    last = sorted((place / "state").iterdir())[-1]
    return metrics, rungs, last.name, {k: v.tolist() for k, v in load_file(last / "parameters.safetensors").items()}


@pytest.mark.parametrize("stop_at", [1, 4, 6])
def test_a_run_resumed_from_a_state_far_back_becomes_the_same(
    build_model: Callable[[], Any], tokenizer: Any, tmp_path: Path, stop_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = left(run(build_model, tokenizer, tmp_path / "whole", max_iterations=7))
    monkeypatch.setattr(state_keeper, "SMALL", 0)
    monkeypatch.setattr(state_keeper, "MOST", 0.0)  # never due again: the first one, those of rungs, the last
    cut = tmp_path / "cut"
    with pytest.raises(Killed):
        run(build_model, tokenizer, cut, max_iterations=7, stop_at=stop_at)
    saved = int(max(p.name for p in (cut / "state").iterdir()))
    assert saved <= stop_at
    assert saved < stop_at or stop_at == 1
    assert left(run(build_model, tokenizer, cut, max_iterations=7, resume=True)) == whole


def test_a_run_that_ended_has_the_state_of_its_end_and_is_continued_from_it(
    build_model: Callable[[], Any], tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = left(run(build_model, tokenizer, tmp_path / "whole", max_iterations=7))
    monkeypatch.setattr(state_keeper, "SMALL", 0)
    monkeypatch.setattr(state_keeper, "MOST", 0.0)
    part = run(build_model, tokenizer, tmp_path / "part", max_iterations=4)
    assert max(p.name for p in (part / "state").iterdir()) == "000004"
    assert left(run(build_model, tokenizer, part, max_iterations=7, resume=True)) == whole
