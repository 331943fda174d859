"""Mixed precision: weights and everything behind the trunk in float32, the trunk's products in bfloat16.

How this differs from accelerate's and TRL's `bf16`, which wrap the whole forward pass:
1. The output head, the softmax, log-probs, KL, ratios, losses and a critic's value head stay in float32: logits in
   bfloat16 have 8 bits, an error of 0.06 at 20.
2. Sampling, the policy, the critic and the update go through the same place (`forward_precision`).
3. Scoring and update read pieces of one shape (`shared_rows`), since in bfloat16 the shape of a batch alone moves
   log-probs; so the first update's ratio is 1. With prompts of several lengths it is 1 only up to that rounding.
4. Log-probs as the sampler saw them are never compared with scored ones in a loss or a KL.
5. KL, k1, k3 and entropy are those of the float32 weights, by a pass of its own: bfloat16 loses weight changes smaller
   than half its step (0.2 % of a weight) where the weight lay on its grid, as all of a model released in bfloat16 do.
   On SmolLM2-135M the KL of its rounded self was 27 % too small (docs/log.md, 2026-11-26). An adapter starts at zero,
   where the grid is fine; what it loses was not measured.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rlhf.foundation.causal_lm import language_model_in
from rlhf.foundation.errors import InputError
from rlhf.foundation.replaced_forward import replaced_forward
from rlhf.ppo.config import PPOConfig

HALF = {torch.bfloat16: "bf16", torch.float16: "fp16"}


def full(tensor: Tensor) -> Tensor:
    """In float32 where it is in half precision, else as it is."""
    return tensor.float() if tensor.dtype in HALF else tensor


def is_half(config: PPOConfig) -> bool:
    """Whether forward passes of a run round to 8 bits."""
    return config.bf16 or config.dtype == "bfloat16"


def head_logits(head: Any, states: Tensor) -> Tensor:
    """Logits (..., V) of states (..., H) by an output head, in float32 whatever stands around it."""
    with torch.autocast(states.device.type, enabled=False):
        if type(head) is nn.Linear:
            bias = None if head.bias is None else full(head.bias)
            return nn.functional.linear(full(states), full(head.weight), bias)
        return full(head(states.to(_own_dtype(head, states))))


def _own_dtype(module: nn.Module, states: Tensor) -> torch.dtype:
    return next((p.dtype for p in module.parameters()), states.dtype)


def values_by(head: nn.Linear, states: Tensor) -> Tensor:
    """A critic's values (...) of states (..., H), in the head's own precision."""
    with torch.autocast(states.device.type, enabled=False):
        values: Tensor = head(states.to(head.weight.dtype))
    return values.squeeze(-1)


def trunk_precision(config: PPOConfig, device: torch.device) -> AbstractContextManager[None]:
    """Around a trunk's forward pass: bfloat16 products with --bf16, nothing else."""
    if not config.bf16:
        return nullcontext()
    casts: Any = torch.autocast(device.type, torch.bfloat16)
    return casts  # type: ignore[no-any-return]


@contextmanager
def forward_precision(config: PPOConfig, model: Any, device: torch.device) -> Iterator[None]:
    """Around the forward pass of a whole causal LM: the same, and its output head in float32."""
    if not is_half(config):
        yield
        return
    output_head = getattr(language_model_in(model), "get_output_embeddings", lambda: None)()
    with trunk_precision(config, device), _in_float32(output_head):
        yield


def _in_float32(head: Any) -> AbstractContextManager[None]:
    """While it lasts a call of `head` computes in float32."""
    if not isinstance(head, nn.Module):
        return nullcontext()
    return replaced_forward(head, partial(_called_in_float32, head, head.forward))


def _called_in_float32(head: Any, plain: Any, states: Tensor) -> Tensor:
    if type(head) is nn.Linear:
        return head_logits(head, states)
    with torch.autocast(states.device.type, enabled=False):
        return full(plain(states.to(_own_dtype(head, states))))


def shared_rows(most: int, *counts: int) -> int:
    """The largest number of rows, at most `most`, by which all of `counts` can be divided."""
    whole = math.gcd(*counts)
    return max(rows for rows in range(1, min(max(1, most), whole) + 1) if whole % rows == 0)


# -- what cannot be had ------------------------------------------------------------------------------------------------


def require_precision(config: PPOConfig, device: torch.device) -> None:
    """Raise InputError where the device cannot do what was asked for, or accelerate was asked for something else."""
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if asked not in ("no", "bf16") or (asked == "bf16" and not config.bf16):
        raise InputError(
            "mixed_precision of accelerate",
            got=asked if asked != "bf16" else "bf16, and no --bf16",
            expected="what the options say" if asked == "bf16" else "no, or bf16 with --bf16",
            fix="give --bf16 too" if asked == "bf16" else "set it to no in the launch file (mixed_precision)",
        )
    if (config.bf16 or config.dtype == "bfloat16") and not has_bf16(device):
        raise InputError(
            "--bf16" if config.bf16 else "--dtype",
            got=f"{device.type}, which has no bfloat16",
            expected="a GPU of compute capability 8.0 (Ampere) or newer, or a CPU",
            fix="leave it out: float32 is exact everywhere",
        )


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 itself; a CPU without such instructions does it slowly, by float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type in ("cpu", "xpu", "npu")


def require_frozen_base(config: PPOConfig, *, adapter: bool) -> None:
    """Raise InputError when weights in bfloat16 would be trained: its steps are too coarse for Adam's."""
    if config.dtype == "bfloat16" and not adapter:
        raise InputError(
            "--dtype",
            got="bfloat16 for weights that are trained",
            expected="float32 weights",
            fix="take --bf16, which keeps them and multiplies in bfloat16, or train an adapter (--use_peft) on them",
        )
