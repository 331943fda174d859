"""GPT-2's activation in one operation gives the numbers and the gradients of transformers' seven."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.activations import NewGELUActivation

from rlhf.foundation.causal_lm import settle
from rlhf.foundation.fused_gelu import FUSED


def tiny(activation: str) -> Any:
    torch.manual_seed(0)
    shape = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32, "vocab_size": 50}
    return GPT2LMHeadModel(GPT2Config(**shape, activation_function=activation)).double().eval()


def logprobs_and_gradient(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.arange(24).reshape(2, 12)
    found = model(ids).logits.log_softmax(-1)
    found.gather(-1, ids[..., None]).sum().backward()
    return found.detach(), model.transformer.h[0].mlp.c_fc.weight.grad


@pytest.mark.parametrize("activation", ["gelu_new", "gelu", "relu", "gelu_pytorch_tanh"])
def test_a_settled_model_gives_the_same_numbers(activation: str) -> None:
    plain = tiny(activation)
    settled = copy.deepcopy(plain)
    settle(settled)
    activations = [block.mlp.act for block in settled.transformer.h]
    assert all(("forward" in vars(one)) == (activation == "gelu_new") for one in activations)
    for ours, theirs in zip(logprobs_and_gradient(settled), logprobs_and_gradient(plain), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    assert settled.state_dict().keys() == plain.state_dict().keys()
    assert settled.config.activation_function == activation


def test_in_float32_it_is_off_by_rounding() -> None:
    values = torch.linspace(-8, 8, 100_001)
    assert (FUSED(values) - NewGELUActivation()(values)).abs().max() < 1e-6
