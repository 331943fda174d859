"""What an engine is given: the plain model's names and weights, adapters merged, the policy left bit for bit."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from rlhf.foundation.errors import InputError
from rlhf.ppo.engine_weights import plain_weights, require_plain


def llama(*, tied: bool = True) -> Any:
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=32, tie_word_embeddings=tied,
    )  # fmt: skip
    return LlamaForCausalLM(shape).eval()


def adapted(model: Any, targets: Any = "all-linear", **options: Any) -> Any:
    found = get_peft_model(model, LoraConfig(r=2, target_modules=targets, task_type="CAUSAL_LM", **options))
    with torch.no_grad():
        for name, parameter in found.named_parameters():
            if "lora" in name:
                parameter.add_(torch.randn_like(parameter))
    return found.eval()


@pytest.mark.parametrize("tied", [True, False])
def test_a_plain_model_is_given_as_it_is(tied: bool) -> None:
    model = llama(tied=tied)
    given = dict(plain_weights(model))
    assert given.keys() == dict(model.named_parameters()).keys()
    assert ("lm_head.weight" in given) is not tied
    assert all(torch.equal(given[name], parameter) for name, parameter in model.named_parameters())


@pytest.mark.parametrize("options", [{}, {"use_dora": True}, {"bias": "lora_only"}])
def test_an_adapter_is_merged_and_the_policy_stays(build_model: Any, options: dict[str, Any]) -> None:
    for plain in (llama(), build_model()):
        policy = adapted(copy.deepcopy(plain), **options)
        before = copy.deepcopy(policy.state_dict())
        given = dict(plain_weights(policy))
        assert all(torch.equal(before[name], now) for name, now in policy.state_dict().items())
        assert given.keys() == dict(plain.named_parameters()).keys()
        merged = dict(copy.deepcopy(policy).merge_and_unload().named_parameters())
        assert all(torch.equal(given[name], merged[name]) for name in given)
        assert any(not torch.equal(given[name], parameter) for name, parameter in plain.named_parameters())


def test_merging_in_place_would_leave_rounding_behind() -> None:
    """Why it is not done: the base, which is the original too, would move at every rollout."""
    policy = adapted(llama())
    before = copy.deepcopy(policy.state_dict())
    policy.merge_adapter()
    policy.unmerge_adapter()
    assert any(not torch.equal(before[name], now) for name, now in policy.state_dict().items())


def test_what_does_not_merge_into_the_plain_model_is_refused() -> None:
    require_plain(llama())
    require_plain(adapted(llama()))
    with pytest.raises(InputError, match="modules_to_save"):
        require_plain(adapted(llama(), modules_to_save=["embed_tokens"]))
    with pytest.raises(InputError, match="embeddings that input and output share"):
        require_plain(adapted(llama(), ["embed_tokens", "q_proj"]))
    require_plain(adapted(llama(tied=False), ["embed_tokens", "q_proj"]))
