"""Any causal language model that transformers has, tiny and at random: trained by name and as an object.

Of each: KL exactly 0 at the start, log-probs of ragged prompts as an unpadded forward gives them, and a trained rung
that transformers reads back as the policy that was measured.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from rlhf import PPOConfig, PPOTrainer
from rlhf.cli import main
from rlhf.foundation.causal_lm import cache_name, reads_left_padding
from rlhf.foundation.model_directory import save_model
from rlhf.runs.ladder import read_rungs

COMMON: dict[str, Any] = {
    "vocab_size": 32, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "max_position_embeddings": 48, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0, "initializer_range": 0.2,
}  # fmt: skip
GROUPED = {"num_key_value_heads": 1}
HEADS = {**GROUPED, "head_dim": 16}
# A window of four tokens, narrower than every text here, and full attention above it.
WINDOW = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
SMALL_STATE = {"state_size": 8}
# The cap is low enough to bend the logits of these models.
CAPPED = {"query_pre_attn_scalar": 16, "final_logit_softcapping": 5.0, "attn_logit_softcapping": 5.0}

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": GROUPED,
    "mistral": {**GROUPED, "sliding_window": 4},
    "qwen2": {**GROUPED, "tie_word_embeddings": True},
    "qwen3": HEADS,
    "gemma": HEADS,
    "gemma2": {**HEADS, **WINDOW, **CAPPED},
    "gemma3_text": {**HEADS, **WINDOW, "query_pre_attn_scalar": 16},
    "phi": {},
    "phi3": GROUPED,
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "bloom": {},  # no positions but ALiBi, no SDPA
    "mpt": {"max_seq_len": 48, "expansion_ratio": 2},
    "falcon": {},
    "gpt2": {"resid_pdrop": 0.1},
    "gpt_neo": {"num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]], "window_size": 4},
    "gpt_neox": {"attention_dropout": 0.1, "hidden_dropout": 0.1},
    "gptj": {"rotary_dim": 8},
    "gpt_oss": {**HEADS, **WINDOW, "num_local_experts": 4, "num_experts_per_tok": 2},
    "mixtral": {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2, "router_jitter_noise": 0.1,
                "output_router_logits": True},
    "qwen3_moe": {**HEADS, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    "stablelm": GROUPED,
    "cohere": GROUPED,
    "cohere2": {**GROUPED, **WINDOW},
    "olmo": GROUPED,
    "olmo2": GROUPED,
    "granite": GROUPED,
    "smollm3": {**GROUPED, "no_rope_layers": [1, 0]},
    "mamba": SMALL_STATE,
    "mamba2": {**SMALL_STATE, "num_heads": 4, "head_dim": 16, "expand": 2, "n_groups": 1, "chunk_size": 8},
    "jamba": {**GROUPED, "num_experts": 2, "attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 8,
              "mamba_dt_rank": 4, "use_mamba_kernels": False},
    "recurrent_gemma": {**HEADS, "num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 8},
    "rwkv": {"attention_hidden_size": 32, "context_length": 48, "num_hidden_layers": 4, "rescale_every": 2},
    "openai-gpt": {},
}  # fmt: skip
# One of each kind that goes another way through the sampler or the scoring; the others are slow together.
QUICK = {"llama", "gemma2", "mixtral", "bloom", "mamba", "rwkv"}
READS_PADDING_AS_TEXT = {"rwkv", "recurrent_gemma"}
CARRIES = {"mamba": "cache_params", "mamba2": "cache_params", "rwkv": None, "recurrent_gemma": None, "openai-gpt": None}

TEXT = [1, 5, 9, 20, 3]
ROWS = [{"prompt": prompt} for prompt in ("a", "bc d", "good morning", "")]


def build(name: str) -> PreTrainedModel:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **(COMMON | ARCHITECTURES[name]))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2 and 0 < parameter.std() < 0.1:  # a config may not say how it is initialised
                parameter.normal_(0, 0.2)
    return model


def letters(prompts: list[str], completions: list[str], **kwargs: Any) -> list[float]:
    """A reward that differs from text to text."""
    return [sum(map(ord, completion)) / 1000 for completion in completions]


def configure(directory: Path, **options: Any) -> PPOConfig:
    small: dict[str, Any] = {
        "iteration_batch_size": 8, "minibatch_size": 4, "max_completion_length": 6, "learning_rate": 1e-2,
        "num_eval_samples": 8, "normalization_samples": 32, "max_iterations": 1, "quiet": True,
    }  # fmt: skip
    return PPOConfig(output_dir=str(directory), **(small | options))


@torch.no_grad()
def plain(model: Any, ids: list[int]) -> Tensor:
    """log π at every place of one text, nothing padded, no cache, no option: (S, V)."""
    logits: Tensor = model(input_ids=torch.tensor([ids])).logits
    return logits[0].log_softmax(-1)


@pytest.mark.parametrize("given", ["name", "object"])
@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in ARCHITECTURES]
)
def test_an_architecture_is_trained_and_read_back(name: str, given: str, tokenizer: Any, tmp_path: Path) -> None:
    model: Any = build(name)
    if given == "name":
        save_model(model, tokenizer, tmp_path / "model")
        model = str(tmp_path / "model")
    trainer = PPOTrainer(model, letters, configure(tmp_path / "run"), ROWS, processing_class=tokenizer)
    assert reads_left_padding(trainer.model) == (name not in READS_PADDING_AS_TEXT)
    assert cache_name(trainer.model) == CARRIES.get(name, "past_key_values")
    rollout = trainer.rollout()
    assert not bool(rollout.prompt_mask.all())  # ragged prompts
    assert rollout.kl.tolist() == [0.0] * 8
    for row in range(8):
        prompt = rollout.prompt_ids[row][rollout.prompt_mask[row]].tolist()
        completion = rollout.completion_ids[row][rollout.completion_mask[row]]
        expected = plain(trainer.model, prompt + completion.tolist())[len(prompt) - 1 : -1]
        expected = expected.gather(-1, completion[:, None]).squeeze(-1).double()
        for found in (rollout.old_logprobs, rollout.sampler_logprobs):
            torch.testing.assert_close(found[row, : len(completion)], expected, rtol=0, atol=1e-5)
    lines = [trainer.step(rollout), trainer.step(trainer.rollout())]
    trainer.close()
    assert lines[0]["ratio_first_update_max_dev"] < 1e-4
    assert lines[1]["kl_per_completion"] > 0
    rungs = read_rungs(trainer.run.ladder)
    first, last = (AutoModelForCausalLM.from_pretrained(trainer.run.root / rungs[i].path).eval() for i in (0, -1))
    for read, live in ((last, trainer.model), (first, trainer.ref_model)):
        torch.testing.assert_close(plain(read, TEXT), plain(live, TEXT), rtol=0, atol=1e-5)
        assert all(torch.equal(tensor, live.state_dict()[name]) for name, tensor in read.state_dict().items())
    assert not torch.allclose(plain(last, TEXT), plain(first, TEXT), rtol=0, atol=1e-3)


def test_a_rwkv_object_that_has_scaled_its_weights_is_still_the_same_policy(tokenizer: Any, tmp_path: Path) -> None:
    model = build("rwkv")
    whole = plain(model, TEXT)  # from here on its weights are scaled, and its state dict is another model's
    model.config.rescale_every = 0
    assert not torch.allclose(plain(model, TEXT), whole, rtol=0, atol=1e-2)
    model.config.rescale_every = 2
    trainer = PPOTrainer(model, letters, configure(tmp_path / "run"), ROWS, processing_class=tokenizer)
    # The epsilon of a layer norm weighs more where hidden states are scaled down.
    torch.testing.assert_close(plain(trainer.model, TEXT), whole, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt_neox"])
def test_full_stops_on_a_local_checkpoint(name: str, tokenizer: Any, tmp_path: Path) -> None:
    save_model(build(name), tokenizer, tmp_path / "model")
    words = [
        "ppo", "--config", "full_stop", "--model_name_or_path", tmp_path / "model", "--output_dir", tmp_path / "run",
        "--prompt", "good morning", "--iteration_batch_size", 64, "--minibatch_size", 16, "--learning_rate", 1e-3,
        "--normalization_samples", 256, "--num_eval_samples", 32, "--max_iterations", 3, "--max_completion_length", 16,
        "--quiet",
    ]  # fmt: skip
    assert main([str(word) for word in words]) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 4
    assert all(line["ratio_first_update_max_dev"] < 1e-4 for line in lines[:-1])
    assert lines[-1]["kl_per_completion"] > 0
    for rung in read_rungs(tmp_path / "run" / "ladder.json"):
        AutoModelForCausalLM.from_pretrained(tmp_path / "run" / rung.path)
