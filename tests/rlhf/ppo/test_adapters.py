"""Adapters of every make: the reference stays the original, and a rung reads back as the policy that was measured."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from rewards.rules import full_stop
from rlhf import PPOConfig, PPOTrainer
from rlhf.cli import main
from rlhf.foundation.errors import InputError
from rlhf.foundation.model_directory import load_causal_lm, save_model
from rlhf.ppo.policy import AdapterOff
from rlhf.runs.ladder import read_rungs

TEXT = torch.tensor([[1, 5, 9, 20, 3, 28, 7]])


def build() -> PreTrainedModel:
    """Biases in its attention, and the embedding as output layer."""
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=32, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
            intermediate_size=64, max_position_embeddings=48, bos_token_id=0, eos_token_id=0, initializer_range=0.2,
            attention_bias=True, tie_word_embeddings=True,
        )
    ).eval()  # fmt: skip


def lora(**options: Any) -> LoraConfig:
    return LoraConfig(**({"r": 4, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"} | options))


def configure(directory: Path, **options: Any) -> PPOConfig:
    small: dict[str, Any] = {
        "iteration_batch_size": 32, "minibatch_size": 8, "max_completion_length": 8, "learning_rate": 2e-2,
        "num_eval_samples": 16, "normalization_samples": 128, "max_iterations": 2, "quiet": True, "kl_budget": 100.0,
    }  # fmt: skip
    return PPOConfig(output_dir=str(directory), **(small | options))


@torch.no_grad()
def logits(model: Any) -> Tensor:
    found: Tensor = model(input_ids=TEXT).logits
    return found


@pytest.fixture
def base(tokenizer: Any, tmp_path: Path) -> Path:
    save_model(build(), tokenizer, tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def adapter(base: Path, tokenizer: Any, tmp_path: Path) -> Path:
    """An adapter directory, as PEFT saves it, that moves its base's logits by far more than rounding."""
    torch.manual_seed(1)
    model = get_peft_model(load_causal_lm(str(base)), lora(init_lora_weights=False))
    assert float((logits(model) - logits(load_causal_lm(str(base)))).abs().max()) > 0.5
    model.save_pretrained(tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


# What the adapter's configuration lets move, and whether the original may be had by switching it off.
MAKES = {
    "lora": (lora(), True),
    "lora on attention's queries alone": (lora(target_modules=["q_proj"]), True),
    "every bias": (lora(bias="all"), False),
    "biases beside it": (lora(bias="lora_only"), False),
    "a whole module": (lora(modules_to_save=["lm_head"]), False),
    "rows of the embedding": (lora(trainable_token_indices=[3, 5]), False),
    "the output layer, tied": (lora(target_modules=["lm_head", "q_proj"]), True),
    "the embedding, tied": (lora(target_modules=["embed_tokens", "q_proj"]), True),
    "embedding and output as one": (lora(target_modules=["embed_tokens", "lm_head"], ensure_weight_tying=True), True),
    "magnitudes": (lora(use_dora=True), None),
    "a base that is changed": (lora(init_lora_weights="pissa"), False),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("given", ["name", pytest.param("object", marks=pytest.mark.slow)])
@pytest.mark.parametrize("make", MAKES)
def test_the_original_stays_and_every_rung_is_its_policy(
    make: str, given: str, base: Path, tokenizer: Any, tmp_path: Path
) -> None:
    config, switched_off = MAKES[make]
    start = logits(load_causal_lm(str(base)))
    model = str(base) if given == "name" else build()
    trainer = PPOTrainer(
        model, full_stop, configure(tmp_path / "run"), processing_class=tokenizer, peft_config=copy.deepcopy(config)
    )
    assert switched_off is None or isinstance(trainer.ref_model, AdapterOff) == switched_off
    trainer.train()
    torch.testing.assert_close(logits(trainer.ref_model), start, rtol=0, atol=1e-4)
    live = logits(trainer.model)
    assert not torch.allclose(live, start, rtol=0, atol=1e-2)
    rungs = [trainer.run.root / rung.path for rung in trainer.ladder.rungs]
    torch.testing.assert_close(logits(load_causal_lm(str(rungs[-1]))), live, rtol=0, atol=1e-4)
    torch.testing.assert_close(logits(load_causal_lm(str(rungs[0]))), start, rtol=0, atol=1e-4)


def test_an_adapter_alone_stands_on_a_base_that_can_be_had_again(base: Path, tokenizer: Any, tmp_path: Path) -> None:
    """By name the rung is the small adapter; a model in memory alone makes it a whole model."""
    saved = []
    for number, model in enumerate((str(base), build())):
        trainer = PPOTrainer(
            model, full_stop, configure(tmp_path / f"{number}"), processing_class=tokenizer, peft_config=lora()
        )
        trainer.train()
        saved.append({path.name for path in (trainer.run.root / trainer.ladder.rungs[-1].path).iterdir()})
    assert "adapter_model.safetensors" in saved[0]
    assert "model.safetensors" not in saved[0]
    assert "model.safetensors" in saved[1]
    assert "adapter_model.safetensors" not in saved[1]


def command(model: Path, output: Path, *extra: object) -> list[str]:
    words = [
        "ppo", "--model_name_or_path", model, "--reward_func", "full_stop", "--output_dir", output, "--quiet",
        "--iteration_batch_size", 32, "--minibatch_size", 8, "--max_completion_length", 8, "--learning_rate", 1e-2,
        "--num_eval_samples", 16, "--normalization_samples", 128, "--max_iterations", 1, *extra,
    ]  # fmt: skip
    return [str(word) for word in words]


@pytest.mark.parametrize("extra", [(), ("--use_peft", "--lora_r", "4", "--lora_target_modules", "q_proj")])
def test_an_adapter_directory_is_the_original(extra: Any, adapter: Path, base: Path, tmp_path: Path) -> None:
    original = logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval())
    assert main(command(adapter, tmp_path / "run", *extra)) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["kl_per_completion"] == 0.0
    first, *_, last = read_rungs(tmp_path / "run" / "ladder.json")
    # transformers alone reads it: the adapter is part of the weights, not left behind
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / first.path)
    torch.testing.assert_close(logits(read), original, rtol=0, atol=1e-4)
    assert main(["export", str(tmp_path / "run"), "--rung", first.name, "--output_dir", str(tmp_path / "out")]) == 0
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(logits(exported), original, rtol=0, atol=1e-4)
    moved = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / last.path)
    assert not torch.allclose(logits(moved), original, rtol=0, atol=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_export_of_an_adapted_output_layer_leaves_the_embedding_alone(base: Path, tmp_path: Path) -> None:
    extra = ("--use_peft", "--lora_r", "4", "--lora_target_modules", "lm_head")
    assert main(command(base, tmp_path / "run", *extra)) == 0
    last = read_rungs(tmp_path / "run" / "ladder.json")[-1]
    rung = tmp_path / "run" / last.path
    live = logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), rung).eval())
    assert main(["export", str(tmp_path / "run"), "--rung", last.name, "--output_dir", str(tmp_path / "out")]) == 0
    torch.testing.assert_close(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "out")), live, rtol=0, atol=1e-4)


def test_an_adapter_upon_an_adapter(base: Path, adapter: Path, tokenizer: Any, tmp_path: Path) -> None:
    adapted = PeftModel.from_pretrained(load_causal_lm(str(base)), adapter)
    original = logits(adapted.eval())
    trainer = PPOTrainer(
        adapted, full_stop, configure(tmp_path / "run"), processing_class=tokenizer, peft_config=lora()
    )
    trainer.train()
    torch.testing.assert_close(logits(trainer.ref_model), original, rtol=0, atol=1e-4)
    rung = trainer.run.root / trainer.ladder.rungs[-1].path
    torch.testing.assert_close(logits(load_causal_lm(str(rung))), logits(trainer.model), rtol=0, atol=1e-4)


def test_an_adapter_that_is_trained_on(base: Path, adapter: Path, tokenizer: Any, tmp_path: Path) -> None:
    """It does not start at zero and so is part of the original; the rung is the adapter alone all the same."""
    adapted = PeftModel.from_pretrained(load_causal_lm(str(base)), adapter, is_trainable=True)
    original = logits(adapted.eval())
    trainer = PPOTrainer(adapted, full_stop, configure(tmp_path / "run"), processing_class=tokenizer)
    trainer.train()
    torch.testing.assert_close(logits(trainer.ref_model), original, rtol=0, atol=0)
    rung = trainer.run.root / trainer.ladder.rungs[-1].path
    assert (rung / "adapter_model.safetensors").is_file()
    torch.testing.assert_close(logits(load_causal_lm(str(rung))), logits(trainer.model), rtol=0, atol=1e-4)


def test_queries_alone_show_in_the_probe(base: Path, tokenizer: Any, tmp_path: Path) -> None:
    """At one token, or equal ones, attention is the same whatever its queries: such an adapter would look like none."""
    torch.manual_seed(1)
    adapted = get_peft_model(build(), lora(target_modules=["q_proj"], init_lora_weights=False)).eval()
    with torch.no_grad(), adapted.disable_adapter():
        off = adapted(torch.tensor([[0]])).logits
    assert torch.equal(adapted(torch.tensor([[0]])).logits, off)
    original = logits(adapted)
    trainer = PPOTrainer(adapted, full_stop, configure(tmp_path / "run"), processing_class=tokenizer)
    assert not isinstance(trainer.ref_model, AdapterOff)
    assert torch.equal(logits(trainer.ref_model), original)


def frozen(base: Path, adapter: Path) -> Any:
    return PeftModel.from_pretrained(load_causal_lm(str(base)), adapter)


def of_transformers(base: Path, adapter: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(adapter)


def learnt_prompt(base: Path, adapter: Path) -> Any:
    return get_peft_model(load_causal_lm(str(base)), PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (frozen, "no trainable parameters"),
        (of_transformers, "an adapter that transformers put into the model"),
        (learnt_prompt, "an adapter that learns a prompt"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    make: Any, message: str, base: Path, adapter: Path, tokenizer: Any, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        PPOTrainer(make(base, adapter), full_stop, configure(tmp_path / "run"), processing_class=tokenizer)
    assert not (tmp_path / "run").exists()


def test_a_policy_that_its_directory_would_not_give_back_is_not_saved(tokenizer: Any, tmp_path: Path) -> None:
    model = build()
    model.config.rms_norm_eps = 1.0  # said, but not done: the layers were made with another
    trainer = PPOTrainer(model, full_stop, configure(tmp_path / "run"), processing_class=tokenizer)
    with pytest.raises(InputError, match=r"reads back as another model \(log-probs differ by"):
        trainer.train()
    assert not (tmp_path / "run").exists()  # nor is anything else of a run that failed in its first iteration
