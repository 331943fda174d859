"""An engine with a planted fault samples a rollout: the doctor names the fault, and says nothing of a sound one."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rewards.rules import full_stop
from rlhf import PPOConfig, PPOTrainer
from rlhf.ppo.evidence import POLICY
from rlhf.ppo.samplers import Sampler
from tests.rlhf.ppo.engines import StandIn

LENGTH = 24


@pytest.fixture
def trainer_with(model: Any, tokenizer: Any, tmp_path: Path) -> Callable[..., PPOTrainer]:
    def build(sampler: Sampler = POLICY, *, moved: float = 0.0, options: Any = None, **fault: Any) -> PPOTrainer:
        args = PPOConfig(
            output_dir=str(tmp_path / "run"), iteration_batch_size=128, minibatch_size=64, num_eval_samples=16,
            normalization_samples=16, max_completion_length=LENGTH, quiet=True, **(options or {}),
        )  # fmt: skip
        trainer = PPOTrainer(model, full_stop, args, processing_class=tokenizer)
        trainer.worker.take(StandIn(trainer.model, LENGTH, sampler, **fault))
        torch.manual_seed(3)
        with torch.no_grad():
            for parameter in trainer.model.parameters():
                parameter.add_(moved * torch.randn(parameter.shape))
        return trainer

    return build


PLANTED: dict[str, tuple[dict[str, Any], str, str]] = {
    "temperature": ({"sampler": Sampler(temperature=0.8)}, "temperature in the engine", r"0\.(79|80|81)"),
    "top-p": ({"sampler": Sampler(top_p=0.9)}, "top-p in the engine", r"p = 0\.90"),
    "top-k": ({"sampler": Sampler(top_k=8)}, "top-k in the engine", "k = 8"),
    "min-p": ({"sampler": Sampler(min_p=0.1)}, "min-p in the engine", r"0\.1 of"),
    "repetition penalty": (
        {"sampler": Sampler(repetition_penalty=1.1)},
        "repetition penalty in the engine",
        r"1\.(09|10|11)",
    ),
    "stale weights": ({"syncs": False, "moved": 0.01}, "stale weights in the engine", "nats a token from"),
    "bf16": ({"bf16": True}, "bf16 rounding in the engine", "rounding makes"),
    "raw log-probs": ({"sampler": Sampler(temperature=0.8), "raw": True}, "temperature in the engine", r"0\.(7|8)"),
}


@pytest.mark.parametrize("case", PLANTED)
def test_the_fault_is_named(trainer_with: Callable[..., PPOTrainer], case: str) -> None:
    fault, name, evidence = PLANTED[case]
    trainer = trainer_with(**fault)
    trainer.rollout()
    diagnosis = trainer.doctor.diagnosis
    assert [cause.name for cause in diagnosis.causes] == [name], diagnosis
    assert re.match(f".*{evidence}", diagnosis.causes[0].evidence), diagnosis


def test_a_sound_engine_is_not_spoken_of(trainer_with: Callable[..., PPOTrainer]) -> None:
    trainer = trainer_with(moved=0.01)
    trainer.rollout()
    assert trainer.doctor.diagnosis.healthy, trainer.doctor.diagnosis


def test_rounding_that_was_asked_for_is_expected(trainer_with: Callable[..., PPOTrainer]) -> None:
    asked = {"use_vllm": True, "vllm_dtype": "bfloat16"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rlhf.ppo.config.PPOConfig.require_vllm", lambda args: None)
        patch.setattr("rlhf.ppo.trainer.start_engine", lambda args, model, *_: StandIn(model, LENGTH, bf16=True))
        trainer = trainer_with(options=asked, bf16=True)
    trainer.rollout()
    assert trainer.doctor.diagnosis.healthy, trainer.doctor.diagnosis
