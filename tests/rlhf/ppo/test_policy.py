"""What is trained and what it is compared with: last layer, LoRA, adapters that do not start at zero."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from rewards.rules import full_stop
from rlhf import PPOConfig, PPOTrainer
from rlhf.cli import main
from rlhf.foundation.causal_lm import settle
from rlhf.foundation.errors import InputError
from rlhf.ppo.policy import AdapterOff, train_last_layer_only
from rlhf.runs.ladder import read_rungs

Build = Callable[..., GPT2LMHeadModel]


def configure(directory: Path, **options: Any) -> PPOConfig:
    small: dict[str, Any] = {
        "iteration_batch_size": 64, "minibatch_size": 32, "max_completion_length": 12, "learning_rate": 1e-3,
        "num_eval_samples": 64, "normalization_samples": 256, "max_iterations": 3, "kl_budget": 3.0, "quiet": True,
    }  # fmt: skip
    return PPOConfig(output_dir=str(directory), **(small | options))


def command(model: Path, output: Path, *extra: object) -> list[str]:
    words = [
        "ppo", "--model_name_or_path", model, "--reward_func", "full_stop", "--output_dir", output, "--quiet",
        "--iteration_batch_size", 64, "--minibatch_size", 32, "--max_completion_length", 12, "--learning_rate", 1e-2,
        "--num_eval_samples", 64, "--normalization_samples", 256, "--kl_budget", 3, "--max_iterations", 3, *extra,
    ]  # fmt: skip
    return [str(word) for word in words]


def test_last_layer_leaves_every_other_tensor_bit_for_bit(model_directory: Path, tmp_path: Path) -> None:
    assert main(command(model_directory, tmp_path / "run", "--train_scope", "last_layer")) == 0
    rungs = read_rungs(tmp_path / "run" / "ladder.json")
    before = load_file(tmp_path / "run" / rungs[0].path / "model.safetensors")
    after = load_file(tmp_path / "run" / rungs[-1].path / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    allowed = {name for name in before if name.startswith(("transformer.h.1.", "transformer.ln_f."))}
    assert changed
    assert changed <= allowed
    assert {"transformer.h.1.mlp.c_fc.weight", "transformer.ln_f.weight"} <= changed


def test_last_layer_of_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(InputError, match="0 lists of layers"):
        train_last_layer_only(torch.nn.Sequential(torch.nn.Linear(2, 2)))


def test_lora_trains_loads_and_resumes(model_directory: Path, tmp_path: Path) -> None:
    lora = ("--use_peft", "--lora_r", "4", "--lora_alpha", "8", "--lora_target_modules", "c_attn", "c_fc")
    assert main(command(model_directory, tmp_path / "whole", *lora)) == 0
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["kl_per_completion"] == 0.0  # the adapter starts at zero
    assert lines[-1]["kl_per_completion"] > 0.0
    rungs = read_rungs(tmp_path / "whole" / "ladder.json")
    saved = sorted(p.name for p in (tmp_path / "whole" / rungs[-1].path).iterdir())
    assert "adapter_model.safetensors" in saved
    assert "model.safetensors" not in saved
    original = AutoModelForCausalLM.from_pretrained(model_directory)
    policy = AutoModelForCausalLM.from_pretrained(tmp_path / "whole" / rungs[-1].path)
    ids = torch.tensor([[0, 5, 6]])
    assert not torch.equal(original(ids).logits, policy(ids).logits)
    # cut after two iterations and resumed: the same bytes
    short = command(model_directory, tmp_path / "cut", *lora)
    short[short.index("--max_iterations") + 1] = "2"
    assert main(short) == 0
    assert main([*command(model_directory, tmp_path / "cut", *lora), "--resume"]) == 0
    for name in ("state/000003/parameters.safetensors", "state/000003/optimizer.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_adapter_off_reference_is_the_original(build_model: Build, tokenizer: Any, tmp_path: Path) -> None:
    original = build_model()
    settle(original)
    config = LoraConfig(r=4, target_modules=["c_attn"], task_type="CAUSAL_LM", lora_dropout=0.5)
    trainer = PPOTrainer(
        build_model(), full_stop, configure(tmp_path / "run"), processing_class=tokenizer, peft_config=config
    )
    assert isinstance(trainer.ref_model, AdapterOff)
    trainer.train()
    ids = torch.tensor([[0, 5, 6, 7]])
    with torch.no_grad():
        assert torch.equal(trainer.ref_model(input_ids=ids).logits, original(ids).logits)
        assert not torch.equal(trainer.model(input_ids=ids).logits, original(ids).logits)
    lines = [json.loads(line) for line in trainer.run.metrics.read_text().splitlines()]
    assert lines[0]["ratio_first_update_max_dev"] < 1e-4  # the adapter's dropout is off too


def test_an_adapter_that_does_not_start_at_zero_gets_a_copy(build_model: Build, tokenizer: Any, tmp_path: Path) -> None:
    adapted = get_peft_model(
        build_model(), LoraConfig(r=4, target_modules=["c_attn"], task_type="CAUSAL_LM", init_lora_weights=False)
    ).eval()
    start = copy.deepcopy(adapted)
    settle(start)
    trainer = PPOTrainer(adapted, full_stop, configure(tmp_path / "run"), processing_class=tokenizer)
    assert not isinstance(trainer.ref_model, AdapterOff)
    trainer.train()
    ids = torch.tensor([[0, 5, 6, 7]])
    with torch.no_grad():
        assert torch.equal(trainer.ref_model(input_ids=ids).logits, start(input_ids=ids).logits)


def test_an_adapter_for_layers_that_are_not_there(build_model: Build, tokenizer: Any, tmp_path: Path) -> None:
    config = LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM")
    with pytest.raises(InputError, match="peft_config"):
        PPOTrainer(build_model(), full_stop, configure(tmp_path), processing_class=tokenizer, peft_config=config)


def test_another_model_s_tokenizer_is_refused_before_the_run(
    build_model: Build, tokenizer: Any, four_tokens: Any, tmp_path: Path
) -> None:
    tiny = GPT2LMHeadModel(GPT2Config(vocab_size=4, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0))
    for model, foreign, message in (
        (tiny, tokenizer, "got '!' as id 31 of 4 embeddings"),
        (build_model(), four_tokens, "got 4 tokens for a model of 32, which gives"),
    ):
        with pytest.raises(InputError, match=message):
            PPOTrainer(model, full_stop, configure(tmp_path / "run"), processing_class=foreign)
    assert not (tmp_path / "run").exists()


def test_a_prompt_s_token_without_an_embedding_is_named(build_model: Build, tokenizer: Any, tmp_path: Path) -> None:
    grown = copy.deepcopy(tokenizer)
    grown.add_tokens(["<new>"])
    rows = [{"prompt": "good"}, {"prompt": "a<new>"}]
    with pytest.raises(InputError, match="got '<new>' as id 32 of 32 embeddings"):
        PPOTrainer(build_model(), full_stop, configure(tmp_path / "run"), rows, processing_class=grown)
    PPOTrainer(build_model(), full_stop, configure(tmp_path / "run"), rows[:1], processing_class=grown)
