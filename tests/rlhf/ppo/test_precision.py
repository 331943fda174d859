"""Mixed precision: an untouched policy's KL is exactly 0, the first ratio 1, and what cannot be had is said."""

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
from rlhf.ppo import forward, precision
from rlhf.ppo.chosen import ChosenTokens
from rlhf.ppo.forward import read
from rlhf.ppo.measuring import Measurer
from rlhf.ppo.policy import reference_of
from rlhf.ppo.rounding import Rounding, lost_updates, rounding_cause

from .test_fast_paths import batch, forwarded, learner_of, model_of

KINDS = ("llama", "gpt2", "gemma2")  # the last is read as a whole


def half(**changes: Any) -> PPOConfig:
    return PPOConfig(output_dir="-", bf16=True, **changes)


def single(kind: str) -> Any:
    return model_of(kind).float()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("padded", [False, True], ids=["unpadded", "padded"])
def test_the_kl_of_an_untouched_policy_is_exactly_0(kind: str, padded: bool) -> None:
    model = single(kind)
    sums = Measurer(model, reference_of(model), half())(*batch(padded)).sums
    assert (sums["kl"] == 0).all()
    assert (sums["k1"] == 0).all()
    assert (sums["entropy"] > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_trunk_rounds_and_the_head_does_not(kind: str) -> None:
    model, data = single(kind), batch(padded=True)
    logits = read(model, *data, half()).logits(slice(None))
    exact = read(model, *data, PPOConfig(output_dir="-")).logits(slice(None))
    assert logits.dtype == torch.float32
    assert 0 < float((logits - exact).abs().max()) < 0.05 * float(exact.abs().max())
    assert float((logits != logits.bfloat16().float()).float().mean()) > 0.9  # a head in bfloat16 rounds them all
    assert "forward" not in model.get_output_embeddings().__dict__  # put back


@pytest.mark.parametrize("trained", ["all", "last layer", "lora", "shared critic", "separate critic"])
@pytest.mark.parametrize("whole", [False, True], ids=["trunk and head", "whole"])
def test_gradients_are_float32s_up_to_rounding(trained: str, whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if whole:
        monkeypatch.setattr(forward, "trunk_and_head", lambda model: None)
    learner, _ = learner_of("llama", trained)
    learner.float()
    found, gradients = forwarded(learner, half(), batch(padded=True))
    _, exact = forwarded(learner, PPOConfig(output_dir="-"), batch(padded=True))
    assert found.logprobs.dtype == torch.float32
    assert gradients.keys() == exact.keys()
    for name, gradient in exact.items():
        assert gradients[name].dtype == torch.float32
        assert float((gradients[name] - gradient).norm()) < 0.1 * float(gradient.norm()) + 1e-3, name


def test_pieces_of_one_shape() -> None:
    assert precision.shared_rows(100, 64, 96) == 32
    assert precision.shared_rows(20, 64, 96) == 16
    assert precision.shared_rows(0, 7, 11) == 1
    model = single("llama")
    config = half(minibatch_size=8, iteration_batch_size=8, max_iteration_batch_size=8, logits_memory_mb=1)
    update = ChosenTokens(model, config).rows_at_once(4, 6, 8)
    assert [len(piece) for piece in Measurer(model, model, config).pieces(24, 10, 6, 8)] == [update] * (24 // update)


SMALL: dict[str, Any] = {
    "iteration_batch_size": 32, "max_iteration_batch_size": 32, "minibatch_size": 16, "max_completion_length": 8,
    "num_eval_samples": 8, "normalization_samples": 16, "max_iterations": 2, "quiet": True, "use_cpu": True,
    "learning_rate": 3e-4, "per_device_train_batch_size": 8,
}  # fmt: skip


def lines_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("options", [{}, {"train_scope": "last_layer"}, {"critic": "shared"}], ids=str)
def test_a_run_in_bf16(model: Any, tokenizer: Any, tmp_path: Path, options: dict[str, Any]) -> None:
    args = PPOConfig(output_dir=str(tmp_path / "run"), bf16=True, **SMALL, **options)
    PPOTrainer(model, full_stop, args, processing_class=tokenizer).train()
    lines = lines_of(tmp_path / "run")
    assert lines[0]["kl_per_completion"] == 0
    assert lines[1]["kl_per_completion"] > 0
    assert [line["ratio_first_update_max_dev"] for line in lines[:2]] == pytest.approx([0, 0], abs=1e-5)
    assert [line["doctor"] for line in lines] == [None, None, None]
    [state] = sorted((tmp_path / "run" / "state").glob("*"))[-1:]
    assert {t.dtype for t in load_file(state / "parameters.safetensors").values()} == {torch.float32}


def test_a_frozen_base_in_bfloat16(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    from peft import LoraConfig

    args = PPOConfig(output_dir=str(tmp_path / "run"), dtype="bfloat16", **SMALL)
    with pytest.raises(InputError, match="--dtype: got bfloat16 for weights that are trained"):
        PPOTrainer(model, full_stop, args, processing_class=tokenizer)
    from rlhf.foundation.model_directory import save_model

    save_model(model, tokenizer, tmp_path / "model")
    lora = LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)
    PPOTrainer(str(tmp_path / "model"), full_stop, args, peft_config=lora).train()
    lines = lines_of(tmp_path / "run")
    assert lines[0]["kl_per_completion"] == 0
    assert lines[1]["kl_per_completion"] > 0
    assert [line["ratio_first_update_max_dev"] for line in lines[:2]] == pytest.approx([0, 0], abs=1e-5)
    [state] = sorted((tmp_path / "run" / "state").glob("*"))[-1:]
    assert {t.dtype for t in load_file(state / "parameters.safetensors").values()} == {torch.float32}


@pytest.mark.parametrize("asked", ["bf16", "fp16", "fp8"])
def test_accelerate_and_the_options_must_agree(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", asked)
    with pytest.raises(InputError, match=f"mixed_precision of accelerate: got {asked}"):
        precision.require_precision(PPOConfig(output_dir="-"), torch.device("cpu"))
    if asked == "bf16":
        precision.require_precision(half(), torch.device("cpu"))
        return
    with pytest.raises(InputError, match="set it to no in the launch file"):
        precision.require_precision(half(), torch.device("cpu"))


def test_a_device_without_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    for config in (half(), PPOConfig(output_dir="-", dtype="bfloat16")):
        with pytest.raises(InputError, match="cuda, which has no bfloat16"):
            precision.require_precision(config, torch.device("cuda"))
    precision.require_precision(PPOConfig(output_dir="-"), torch.device("cuda"))
    with pytest.raises(InputError, match="--bf16"):
        half(dtype="float64")


def test_rounding_is_a_cause_and_not_a_stale_policy() -> None:
    size = Rounding(mean=0.02, most=0.1)
    assert [cause.name for cause in rounding_cause(0.05, size, half())] == ["bf16 rounding"]
    assert rounding_cause(0.5, size, half()) == []
    assert rounding_cause(0.05, size, PPOConfig(output_dir="-")) == []


def test_kl_is_that_of_the_weights_and_not_of_their_rounding() -> None:
    """Weights on the grid of bfloat16, moved by less than half its step: rounding gives the original again."""
    model = single("llama")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())
        reference = reference_of(model)
        for parameter in (p for p in model.model.layers.parameters() if p.ndim == 2):
            parameter.mul_(1 + 2**-10)
    found = Measurer(model, reference, half())(*batch(padded=True))
    exact = Measurer(model.double(), reference.double(), PPOConfig(output_dir="-", dtype="float64"))(*batch(True))
    assert float(exact.sums["kl"].mean()) > 5e-6
    torch.testing.assert_close(found.sums["kl"], exact.sums["kl"], rtol=0.02, atol=1e-6)
    model.float(), reference.float()
    blind = read(model, *batch(True), half()).logits(slice(None))
    assert torch.equal(blind, read(reference, *batch(True), half()).logits(slice(None)))


def test_updates_lost_to_rounding_are_told() -> None:
    assert [cause.name for cause in lost_updates(Rounding(mean=0.3, most=1.0), half())] == ["bf16 rounding"]
    assert lost_updates(Rounding(mean=0.05, most=1.0), half()) == []
    assert lost_updates(Rounding(mean=0.3, most=1.0), PPOConfig(output_dir="-")) == []
