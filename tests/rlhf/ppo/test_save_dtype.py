"""Rungs in the dtype that was asked for; the state stays what is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rewards.rules import full_stop
from rlhf import PPOConfig, PPOTrainer
from rlhf.foundation.errors import InputError
from rlhf.foundation.model_directory import load_causal_lm

from .test_precision import SMALL


@pytest.mark.parametrize(("save_dtype", "stored"), [(None, torch.float32), ("bfloat16", torch.bfloat16)])
def test_rungs_are_rounded_and_the_state_is_not(
    model: Any, tokenizer: Any, tmp_path: Path, save_dtype: str | None, stored: torch.dtype
) -> None:
    args = PPOConfig(output_dir=str(tmp_path / "run"), save_dtype=save_dtype, **SMALL)
    trainer = PPOTrainer(model, full_stop, args, processing_class=tokenizer)
    trainer.train()
    rung = tmp_path / "run" / trainer.ladder.rungs[-1].path
    tensors = load_file(rung / "model.safetensors")
    assert {t.dtype for t in tensors.values()} == {stored}
    assert json.loads((rung / "config.json").read_text())["dtype"] == str(stored).removeprefix("torch.")
    live = trainer.model.state_dict()
    assert all(torch.equal(t, live[name].to(stored)) for name, t in tensors.items())
    assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}
    assert load_causal_lm(str(rung)).dtype == torch.float32  # as it is trained and evaluated
    state = max((tmp_path / "run" / "state").glob("[0-9]*"))
    assert {t.dtype for t in load_file(state / "parameters.safetensors").values()} == {torch.float32}


def test_a_merged_adapter_is_rounded_too(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    from peft import LoraConfig

    lora = LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)  # a model in memory has no base by name
    args = PPOConfig(output_dir=str(tmp_path / "run"), save_dtype="bfloat16", **SMALL)
    trainer = PPOTrainer(model, full_stop, args, processing_class=tokenizer, peft_config=lora)
    trainer.train()
    tensors = load_file(tmp_path / "run" / trainer.ladder.rungs[-1].path / "model.safetensors")
    assert {t.dtype for t in tensors.values()} == {torch.bfloat16}


def test_a_run_in_float64_keeps_its_digits() -> None:
    with pytest.raises(InputError, match="--save_dtype"):
        PPOConfig(output_dir="-", dtype="float64", save_dtype="bfloat16")
