"""The controller by hand, and planted in a run: growth raises the clip fraction, a halved rate lowers it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import GPT2LMHeadModel

from rewards.rules import full_stop
from rlhf import PPOConfig, PPOTrainer
from rlhf.ppo.controller import ClipFractionController


def controller() -> ClipFractionController:
    return ClipFractionController(1024, 1e-4, 3000, low=0.01, high=0.2)


def test_too_few_clipped_doubles_the_batch_up_to_its_maximum() -> None:
    c = controller()
    first = c.read(0.004)
    assert first is not None
    assert (first.action, first.iteration_batch_size, first.learning_rate) == ("grow_batch", 2048, 1e-4)
    assert "0.40%" in first.reason
    second, third = c.read(0.0), c.read(0.0)
    assert second is not None
    assert third is not None
    assert (second.action, second.iteration_batch_size) == ("grow_batch", 3000)
    assert (third.action, third.iteration_batch_size) == ("at_maximum_batch", 3000)


def test_too_many_clipped_halves_the_learning_rate() -> None:
    c = controller()
    decision = c.read(0.21)
    assert decision is not None
    assert (decision.action, decision.iteration_batch_size, decision.learning_rate) == (
        "halve_learning_rate",
        1024,
        5e-5,
    )


def test_while_the_rate_rises_few_clipped_say_nothing_and_many_still_halve_it() -> None:
    c = controller()
    assert c.read(0.0, warming_up=True) is None
    assert c.iteration_batch_size == 1024
    decision = c.read(0.3, warming_up=True)
    assert decision is not None
    assert decision.action == "halve_learning_rate"


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.2, None])
def test_in_between_and_unknown_change_nothing(fraction: float | None) -> None:
    c = controller()
    assert c.read(fraction) is None
    assert (c.iteration_batch_size, c.learning_rate) == (1024, 1e-4)


def test_state_round_trip() -> None:
    c = controller()
    c.read(0.0)
    c.read(0.5)
    other = controller()
    other.restore(json.loads(json.dumps(c.state())))
    assert (other.iteration_batch_size, other.learning_rate) == (2048, 5e-5)


def planted(model: GPT2LMHeadModel, tokenizer: Any, directory: Path, **options: Any) -> list[dict[str, Any]]:
    config = PPOConfig(
        output_dir=str(directory),
        minibatch_size=64,
        max_completion_length=12,
        num_eval_samples=8,
        normalization_samples=512,
        kl_budget=50.0,
        ladder_step=7.0,
        quiet=True,
        **options,
    )
    run = PPOTrainer(model, full_stop, config, processing_class=tokenizer).train()
    return [json.loads(line) for line in (run.directory / "metrics.jsonl").read_text().splitlines()]


def test_growing_the_batch_raises_the_clip_fraction(model: GPT2LMHeadModel, tokenizer: Any, tmp_path: Path) -> None:
    lines = planted(
        model,
        tokenizer,
        tmp_path / "run",
        iteration_batch_size=128,
        max_iteration_batch_size=2048,
        max_iterations=6,
        learning_rate=2e-4,
        clip_ratio_low=0.5,
        clip_ratio_high=0.9,
    )
    sizes = [line["iteration_batch_size"] for line in lines]
    assert sizes[:5] == [128, 256, 512, 1024, 2048]
    assert lines[0]["controller"]["action"] == "grow_batch"
    fractions = [line["clip_ratio/outside_mean"] for line in lines[:5]]
    # 2 updates a rollout against 32: the policy moves further from the one that sampled.
    assert fractions[4] > 3 * fractions[0]
    assert fractions[4] > 0.01


def test_above_the_range_the_learning_rate_falls_and_so_does_the_fraction(
    model: GPT2LMHeadModel, tokenizer: Any, tmp_path: Path
) -> None:
    lines = planted(
        model,
        tokenizer,
        tmp_path / "run",
        iteration_batch_size=512,
        max_iteration_batch_size=512,
        max_iterations=6,
        learning_rate=2e-2,
        clip_ratio_low=0.0,
    )
    assert lines[0]["clip_ratio/outside_mean"] > 0.2
    assert lines[0]["controller"]["action"] == "halve_learning_rate"
    assert lines[1]["learning_rate"] == pytest.approx(1e-2)
    updated = [line for line in lines if line["clip_ratio/outside_mean"] is not None]
    assert updated[-1]["clip_ratio/outside_mean"] < updated[0]["clip_ratio/outside_mean"]
