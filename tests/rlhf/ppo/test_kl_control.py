"""KL coefficients by hand, in a run, and early stopping of a rollout's updates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import GPT2LMHeadModel

from rewards.rules import full_stop
from rlhf import PPOConfig, PPOTrainer
from rlhf.foundation.errors import InputError
from rlhf.ppo.kl_control import KLController


def test_adaptive_by_hand() -> None:
    controller = KLController(beta=0.2, target=6.0, horizon=10_000)
    controller.read(6.6, 1000)  # e = 0.1
    assert controller.beta == pytest.approx(0.2 * (1 + 0.1 * 0.1))
    controller = KLController(beta=0.2, target=6.0, horizon=10_000)
    controller.read(60.0, 1000)  # e clipped to 0.2
    assert controller.beta == pytest.approx(0.2 * 1.02)
    controller = KLController(beta=0.2, target=6.0, horizon=10_000)
    controller.read(0.0, 1000)  # e clipped to -0.2
    assert controller.beta == pytest.approx(0.2 * 0.98)
    falling = KLController(beta=0.2, target=None, horizon=10_000, decay=0.25)
    falling.read(60.0, 1000)
    falling.read(0.0, 2000)  # whatever the KL and the batch
    assert falling.beta == pytest.approx(0.2 * 0.75**2)
    fixed = KLController(beta=0.2, target=None, horizon=10_000)
    fixed.read(60.0, 1000)
    assert fixed.beta == 0.2


def train(model: Any, tokenizer: Any, directory: Path, **options: Any) -> list[dict[str, Any]]:
    small: dict[str, Any] = {
        "iteration_batch_size": 128, "max_iteration_batch_size": 128, "minibatch_size": 32, "max_completion_length": 12,
        "num_eval_samples": 8, "normalization_samples": 512, "kl_budget": 50.0, "ladder_step": 7.0, "quiet": True,
        "learning_rate": 1e-3,
    }  # fmt: skip
    config = PPOConfig(output_dir=str(directory), **(small | options))
    run = PPOTrainer(model, full_stop, config, processing_class=tokenizer).train()
    return [json.loads(line) for line in (run.directory / "metrics.jsonl").read_text().splitlines()]


def test_a_large_beta_holds_the_policy_back(build_model: Any, tokenizer: Any, tmp_path: Path) -> None:
    free = train(build_model(), tokenizer, tmp_path / "free", max_iterations=12)
    held = train(build_model(), tokenizer, tmp_path / "held", max_iterations=12, beta=3.0)
    assert held[-1]["kl_per_completion"] < 0.5 * free[-1]["kl_per_completion"]
    assert all(line["beta"] == 3.0 for line in held)


ADAPTIVE = {"beta": 0.5, "kl_target": 20.0, "kl_horizon": 1000}  # whose KL stays below its target


@pytest.mark.parametrize(("options", "falls"), [(ADAPTIVE, 0.2 * 128 / 1000), ({"beta": 0.5, "beta_decay": 0.3}, 0.3)])
def test_beta_falls_and_is_resumed(
    build_model: Any, tokenizer: Any, tmp_path: Path, options: dict[str, Any], falls: float
) -> None:
    whole = train(build_model(), tokenizer, tmp_path / "whole", max_iterations=4, **options)
    betas = [line["beta"] for line in whole]
    assert betas == pytest.approx([0.5 * (1 - falls) ** i for i in range(5)])
    train(build_model(), tokenizer, tmp_path / "cut", max_iterations=2, **options)
    cut = train(build_model(), tokenizer, tmp_path / "cut", max_iterations=4, resume=True, **options)
    assert [line["beta"] for line in cut] == betas
    assert [line["reward"] for line in cut] == [line["reward"] for line in whole]


def test_early_stop_ends_a_rollout_s_updates(model: GPT2LMHeadModel, tokenizer: Any, tmp_path: Path) -> None:
    lines = train(
        model, tokenizer, tmp_path / "run", max_iterations=3, learning_rate=2e-2, num_ppo_epochs=4, early_stop_kl=0.01
    )
    assert lines[0]["early_stopped"] is True
    assert lines[1]["optimizer_steps"] < 16  # four epochs of four minibatches otherwise


@pytest.mark.parametrize(
    "options",
    [
        {"kl_target": 6.0}, {"kl_target": -1.0, "beta": 0.1}, {"early_stop_kl": 0.0},
        {"beta": 0.1, "beta_decay": 1.0}, {"beta": 0.1, "beta_decay": -0.1},
        {"beta": 0.1, "beta_decay": 0.1, "kl_target": 6.0},
    ],
)  # fmt: skip
def test_bad_control_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        PPOConfig(output_dir="x", **options)
