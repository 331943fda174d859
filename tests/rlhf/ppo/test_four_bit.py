"""A base in four bits below an adapter: gradients and KL, rungs on the base that was trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

from rewards.rules import full_stop
from rlhf import PPOConfig, PPOTrainer
from rlhf.cli import main
from rlhf.evaluation.checkpoints import load_rung
from rlhf.foundation.adapters import load_adapter, merged, on_full_numbers
from rlhf.foundation.errors import InputError
from rlhf.foundation.four_bit import FILE, FourBit, four_bit_in
from rlhf.foundation.model_digests import weights_digest
from rlhf.foundation.model_directory import load_causal_lm, save_model
from rlhf.ppo.policy import AdapterOff, add_adapter, prepare_four_bit
from rlhf.runs.reading import read_run

from .conftest import SMALL_RUN, without

TEXT = torch.tensor([[1, 5, 9, 20, 3, 28, 7], [2, 2, 11, 30, 8, 4, 19]])
SMALL: dict[str, Any] = {
    "iteration_batch_size": 32, "minibatch_size": 8, "max_completion_length": 8, "learning_rate": 2e-2,
    "num_eval_samples": 16, "normalization_samples": 64, "max_iterations": 2, "quiet": True, "kl_budget": 100.0,
    "load_in_4bit": True, "use_cpu": True,
}  # fmt: skip

needs_bitsandbytes = pytest.mark.usefixtures("bitsandbytes")
# bitsandbytes looks for a bias of another dtype with a deprecated call; transformers tells how a base is loaded.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


def build(*, biases: bool = True) -> LlamaForCausalLM:
    """Biases in its attention unless told otherwise, and the embedding as output layer."""
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=32, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
            intermediate_size=128, max_position_embeddings=48, bos_token_id=0, eos_token_id=0, initializer_range=0.2,
            attention_bias=biases, tie_word_embeddings=True,
        )
    ).eval()  # fmt: skip


def lora(**options: Any) -> LoraConfig:
    return LoraConfig(**({"r": 4, "target_modules": "all-linear", "task_type": "CAUSAL_LM"} | options))


@pytest.fixture
def base(tokenizer: Any, tmp_path: Path) -> Path:
    save_model(build(), tokenizer, tmp_path / "base")
    return tmp_path / "base"


@torch.no_grad()
def logprobs(model: Any) -> Tensor:
    found: Tensor = model(input_ids=TEXT).logits.log_softmax(-1)
    return found


def trained(base: Path, directory: Path, peft_config: Any = None, **options: Any) -> PPOTrainer:
    args = PPOConfig(output_dir=str(directory), **{**SMALL, **options})
    trainer = PPOTrainer(str(base), full_stop, args, peft_config=peft_config or lora())
    trainer.train()
    return trainer


def adapted(base: Path, **options: Any) -> Any:
    """Four bits below an adapter that moves its base, as a run holds them."""
    model = prepare_four_bit(load_causal_lm(str(base), four_bit=FourBit(**options)))
    model = add_adapter(model, lora(init_lora_weights=False), seed=1)
    return model.eval()


def gradients(model: Any, rows: int) -> dict[str, Tensor]:
    """Of the adapter, from a loss of log-probs of some rows."""
    model.zero_grad()
    chosen = model(input_ids=TEXT[:rows]).logits.log_softmax(-1)[:, :-1].gather(-1, TEXT[:rows, 1:, None])
    (chosen * torch.linspace(-1, 1, chosen.shape[1])[None, :, None]).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


def largest_error(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    """Of any tensor, relative to its own norm."""
    assert found.keys() == wanted.keys()
    return max(float((found[name] - wanted[name]).norm() / wanted[name].norm()) for name in wanted)


# -- the arithmetic ----------------------------------------------------------------------------------------------------


@needs_bitsandbytes
@pytest.mark.parametrize("quant_type", ["nf4", "fp4"])
@pytest.mark.parametrize("rows", [1, 2])
def test_the_adapters_gradients_are_those_on_the_same_numbers_in_full(base: Path, rows: int, quant_type: str) -> None:
    model = adapted(base, quant_type=quant_type)
    logprobs(model)  # a pass without gradients comes first, as sampling does
    found = gradients(model, rows)
    whole = on_full_numbers(adapted(base, quant_type=quant_type))
    whole.load_state_dict({name: p.detach() for name, p in model.named_parameters() if p.requires_grad}, strict=False)
    for name, parameter in whole.named_parameters():
        parameter.requires_grad_("lora_" in name)
    assert four_bit_in(whole) is None
    wanted = gradients(whole, rows)
    assert largest_error(found, wanted) < 1e-5
    other = get_peft_model(load_causal_lm(str(base)), lora()).eval()  # the base before it was rounded
    other.load_state_dict({name: p.detach() for name, p in model.named_parameters() if p.requires_grad}, strict=False)
    assert largest_error(gradients(other, rows), wanted) > 1e-2


@needs_bitsandbytes
def test_as_transformers_loads_it_a_gradient_is_lost_without_an_error(base: Path, tokenizer: Any) -> None:
    """Why the layers have a forward of our own (with biases theirs fails; without AVX512-BF16 it is right as well)."""
    from bitsandbytes.functional import has_avx512bf16

    if not has_avx512bf16():
        pytest.skip("a CPU without AVX512-BF16")
    save_model(build(biases=False), tokenizer, base)
    how: Any = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    theirs: Any = AutoModelForCausalLM.from_pretrained(base, quantization_config=how, dtype=torch.float32).eval()
    theirs = add_adapter(prepare_four_bit(theirs), lora(init_lora_weights=False), seed=1)
    logprobs(theirs)
    ours = adapted(base)
    assert largest_error(gradients(theirs, 2), gradients(ours, 2)) > 0.1


@needs_bitsandbytes
def test_a_pass_in_float32_is_one_beside_autocast_and_biases_keep_their_digits(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import bitsandbytes

    model, product, seen = adapted(base), bitsandbytes.matmul_4bit, []

    def noting(x: Tensor, *given: Any, **further: Any) -> Tensor:
        seen.append(x.dtype)
        found: Tensor = product(x, *given, **further)
        return found

    monkeypatch.setattr(bitsandbytes, "matmul_4bit", noting)
    before, digest = logprobs(model), weights_digest(model)
    assert set(seen) == {torch.float32}
    seen.clear()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = logprobs(model)
    assert set(seen) == {torch.bfloat16}
    assert not torch.equal(rounded, before)
    assert torch.equal(logprobs(model), before)
    assert weights_digest(model) == digest


@needs_bitsandbytes
def test_the_digest_knows_the_constants(base: Path) -> None:
    model = load_causal_lm(str(base), four_bit=FourBit())
    digest = weights_digest(model)
    assert weights_digest(load_causal_lm(str(base), four_bit=FourBit())) == digest
    layer: Any = model.get_submodule("model.layers.1.mlp.up_proj")
    layer.weight.quant_state.absmax[0] *= 2  # the same four bits, twice as large
    assert weights_digest(model) != digest


@needs_bitsandbytes
def test_gpt2s_layers_are_as_its_files_hold_them_again(model_directory: Path, tmp_path: Path, tokenizer: Any) -> None:
    quantised = prepare_four_bit(load_causal_lm(str(model_directory), four_bit=FourBit()))
    lora_config = lora(target_modules=["c_attn", "c_fc"], init_lora_weights=False)
    live = add_adapter(quantised, lora_config, seed=1).eval()
    before = logprobs(live)
    whole = merged(live, "here")
    save_model(whole, tokenizer, tmp_path / "whole")
    read: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "whole").eval()
    torch.testing.assert_close(logprobs(read), before, rtol=0, atol=1e-4)


# -- a run -------------------------------------------------------------------------------------------------------------


@needs_bitsandbytes
@pytest.mark.parametrize("options", [{}, {"gradient_checkpointing": True}, {"critic": "shared"}])
def test_the_untouched_policy_is_its_original_and_the_first_ratio_is_1(
    base: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    trainer = trained(base, tmp_path / "run", **options)
    assert isinstance(trainer.ref_model, AdapterOff)
    first = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["kl_per_completion"] == 0.0
    assert first["ratio_first_update_max_dev"] == 0.0
    assert first["doctor"] is None
    assert not torch.allclose(logprobs(trainer.model), logprobs(trainer.ref_model), rtol=0, atol=1e-2)


@needs_bitsandbytes
def test_with_bf16_the_kl_is_of_float32_products(base: Path, tmp_path: Path) -> None:
    trainer = trained(base, tmp_path / "run", bf16=True)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["kl_per_completion"] == 0.0
    assert lines[0]["ratio_first_update_max_dev"] == 0.0
    rung = read_run(tmp_path / "run").rungs[-1]
    assert torch.equal(logprobs(load_rung(read_run(tmp_path / "run"), rung)), logprobs(trainer.model))


@needs_bitsandbytes
def test_a_rung_is_loaded_on_the_base_it_was_trained_on(base: Path, tmp_path: Path) -> None:
    live = logprobs(trained(base, tmp_path / "run").model)
    run = read_run(tmp_path / "run")
    rung = tmp_path / "run" / run.rungs[-1].path
    assert {p.name for p in rung.glob("*.safetensors")} == {"adapter_model.safetensors"}
    loaded = load_rung(run, run.rungs[-1])
    assert four_bit_in(loaded) == FourBit("nf4")
    assert torch.equal(logprobs(loaded), live)
    torch.testing.assert_close(logprobs(load_causal_lm(str(rung))), live, rtol=0, atol=1e-4)
    wrong: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), rung).eval()
    assert not torch.allclose(logprobs(wrong), live, rtol=0, atol=0.1)  # the whole base is another policy
    other: Any = load_adapter(load_causal_lm(str(base), four_bit=FourBit("fp4")), str(rung))
    assert not torch.allclose(logprobs(other), live, rtol=0, atol=0.1)


@needs_bitsandbytes
def test_a_rung_without_word_of_its_base_or_on_another_is_refused(base: Path, tmp_path: Path) -> None:
    trained(base, tmp_path / "run")
    run = read_run(tmp_path / "run")
    note = tmp_path / "run" / run.rungs[-1].path / FILE
    said = note.read_text()
    note.unlink()
    with pytest.raises(InputError, match=f"rung .*{FILE}"):
        load_rung(run, run.rungs[-1])
    note.write_text(said.replace("nf4", "nf5"))
    with pytest.raises(InputError, match=FILE):
        load_causal_lm(str(note.parent))
    note.write_text(said)
    changed = build()
    with torch.no_grad():
        changed.model.layers[0].mlp.up_proj.weight *= 2  # type: ignore[union-attr]
    changed.save_pretrained(base)
    with pytest.raises(InputError, match="an adapter whose base is no longer what it was"):
        load_rung(run, run.rungs[-1])


@needs_bitsandbytes
def test_evaluation_measures_the_runs_own_kl(base: Path, tmp_path: Path) -> None:
    """Also export, whose model is whole, and the policy that was trained."""
    trainer = trained(base, tmp_path / "run", num_eval_samples=64)
    from rlhf.evaluation.fresh_samples import draw_rung

    run = read_run(tmp_path / "run")
    last, first = run.rungs[-1], run.rungs[0]
    assert draw_rung(run, first.name, [""] * 32, [full_stop]).kl.mean == 0.0
    found = draw_rung(run, last.name, [""] * 256, [full_stop]).kl
    assert abs(found.mean - last.kl_per_completion) < 4 * (found.se + (last.kl_per_completion_se or 0.0))
    assert main(["export", str(run.directory), "--rung", last.name, "--output_dir", str(tmp_path / "out")]) == 0
    exported: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    torch.testing.assert_close(logprobs(exported), logprobs(trainer.model), rtol=0, atol=1e-4)
    assert "quantization_config" not in json.loads((tmp_path / "out" / "config.json").read_text())


@needs_bitsandbytes
def test_where_the_base_is_not_found_again_rungs_are_whole_and_the_same_policy(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = PPOConfig(output_dir=str(tmp_path / "run"), **SMALL)
    trainer = PPOTrainer(str(base), full_stop, args, peft_config=lora())
    base.rename(tmp_path / "elsewhere")
    trainer.train()
    assert "rungs are whole models" in capsys.readouterr().err
    run = read_run(tmp_path / "run")
    loaded = load_rung(run, run.rungs[-1])
    assert four_bit_in(loaded) is None
    torch.testing.assert_close(logprobs(loaded), logprobs(trainer.model), rtol=0, atol=1e-4)


@needs_bitsandbytes
def test_a_resumed_run_is_the_unbroken_one(base: Path, tmp_path: Path) -> None:
    whole = trained(base, tmp_path / "whole", max_iterations=3)
    trained(base, tmp_path / "cut", max_iterations=2)
    resumed = trained(base, tmp_path / "cut", max_iterations=3, resume=True)
    one, other = (dict(trainer.model.named_parameters()) for trainer in (whole, resumed))
    assert all(torch.equal(one[name], other[name]) for name in one)
    last = [
        run / read_run(run).rungs[-1].path / "adapter_model.safetensors"
        for run in (tmp_path / "whole", tmp_path / "cut")
    ]
    first, second = map(load_file, last)
    assert all(torch.equal(first[name], second[name]) for name in first)

    def measured(directory: Path) -> list[dict[str, Any]]:
        rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
        return [{k: v for k, v in row.items() if not k.startswith("seconds/")} for row in rows]

    assert measured(tmp_path / "whole") == measured(tmp_path / "cut")


@pytest.mark.slow
@needs_bitsandbytes
def test_two_processes_hold_the_same_four_bits_and_give_the_run_of_one(
    base: Path, tmp_path: Path, launch_two: Callable[..., Any]
) -> None:
    words = [
        "--model_name_or_path",
        str(base),
        "--reward_func",
        "full_stop",
        "--use_peft",
        "--load_in_4bit",
        "--use_cpu",
    ]
    assert main(["ppo", *without(SMALL_RUN, words), *words, "--output_dir", str(tmp_path / "one")]) == 0
    told = launch_two(*words, "--output_dir", str(tmp_path / "two"))
    assert told.status == 0, told.stderr
    one, two = (read_run(tmp_path / name) for name in ("one", "two"))
    assert one.info["inputs"] == two.info["inputs"]
    first, second = (logprobs(load_rung(run, run.rungs[-1])) for run in (one, two))
    torch.testing.assert_close(first, second, rtol=0, atol=1e-3)


@needs_bitsandbytes
def test_the_doctor_of_rollouts_wants_the_original_in_four_bits(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(base, tmp_path / "run")
    first, last = (tmp_path / "run" / read_run(tmp_path / "run").rungs[at].path for at in (0, -1))
    rows = [{"prompt_ids": [0], "completion_ids": [number, 3, 0]} for number in (5, 9, 11)]
    (tmp_path / "rollouts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["doctor", "--rollouts", str(tmp_path / "rollouts.jsonl"), "--model_name_or_path", str(last)]
    assert main([*words, "--ref_model_name_or_path", str(base)]) == 2
    assert "in four bits which the policy was trained on" in capsys.readouterr().err
    assert main([*words, "--ref_model_name_or_path", str(first)]) == 0


@needs_bitsandbytes
def test_resuming_in_full_precision_is_refused(base: Path, tmp_path: Path) -> None:
    trained(base, tmp_path / "run")
    with pytest.raises(InputError, match="load_in_4bit"):
        trained(base, tmp_path / "run", max_iterations=3, resume=True, load_in_4bit=False)
