"""A run's models without their weights: built from config.json, as tensors that have a size and no data.

`torch._subclasses.FakeTensorMode` makes them; the same operators run on them as on real ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM

from rlhf.foundation.errors import InputError
from rlhf.foundation.load_errors import LOAD_ERRORS, libraries_in_silence, load_failure
from rlhf.foundation.model_names import require_names
from rlhf.foundation.model_pair import LanguageModel
from rlhf.planning.config import PlanConfig
from rlhf.planning.four_bit import in_four_bits
from rlhf.ppo import policy
from rlhf.ppo.finetune import load_peft_config


class Weightless(NamedTuple):
    """The policy, of which what is trained requires a gradient, and what else a run holds."""

    model: Any
    reference: nn.Module | None  # None where it is the policy with its adapter off
    critic: nn.Module | None  # a separate one's trunk
    mode: FakeTensorMode


def _attention(
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False, **how: Any
) -> Any:
    """The fused kernel, as on every device; on tensors without data torch would take the long way."""
    copies = query.shape[1] // key.shape[1]
    if copies > 1:
        key, value = key.repeat_interleave(copies, 1), value.repeat_interleave(copies, 1)
    kernel: Any = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return kernel(query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=how.get("scale"))[0]


def config_of(name: Any) -> Any:
    """The model's config. Raises InputError where there is none, or of an architecture that is not known."""
    if isinstance(name, LanguageModel):
        return name.model.config
    require_names(name)
    try:
        with libraries_in_silence():
            return AutoConfig.from_pretrained(name)
    except (*LOAD_ERRORS, KeyError) as error:
        raise load_failure(name, "a config.json of a causal language model", error) from error


@contextmanager
def without_data(mode: FakeTensorMode) -> Iterator[None]:
    """While it lasts tensors have no data, and attention is the fused kernel's, in a backward pass too."""
    torch_functions: Any = functional
    before = torch_functions.scaled_dot_product_attention
    torch_functions.scaled_dot_product_attention = _attention
    try:
        with mode:
            yield
    finally:
        torch_functions.scaled_dot_product_attention = before


def weightless(config: PlanConfig) -> Weightless:
    """Build what a run would load, freeze and train as it does. Raises InputError."""
    described, dtype = config_of(config.model_name_or_path), getattr(torch, config.dtype)
    model = _built(described, dtype, config)
    reference = None if config.use_peft else _built(described, dtype, config).requires_grad_(False)
    critic = _built(described, torch.float32, config).base_model if config.critic == "separate" else None
    if config.load_in_4bit:
        model = in_four_bits(model)
    if config.use_peft:
        model = policy.add_adapter(model, load_peft_config(config), config.seed)
    elif config.train_scope == "last_layer":
        policy.train_last_layer_only(model)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    for module in (model, reference, critic):
        _as_if_on_a_device(module, mode)
    return Weightless(model, reference, critic, mode)


def _as_if_on_a_device(module: nn.Module | None, mode: FakeTensorMode) -> None:
    """Give parameters and buffers of the meta device a size on another one; ties stay."""
    made: dict[int, Any] = {}
    for part in module.modules() if module is not None else ():
        for kind in (part._parameters, part._buffers):
            for name, tensor in kind.items():
                if tensor is not None:
                    kind[name] = made.setdefault(id(tensor), _likeness(tensor, mode))


def _likeness(tensor: Any, mode: FakeTensorMode) -> Any:
    with mode:
        like = torch.empty(tensor.shape, dtype=tensor.dtype)
    return nn.Parameter(like, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else like


def _built(described: Any, dtype: torch.dtype, config: PlanConfig) -> Any:
    try:
        with libraries_in_silence(), torch.device("meta"):
            factory: Any = AutoModelForCausalLM
            return factory.from_config(described, dtype=dtype).eval()
    except (ValueError, KeyError) as error:
        raise InputError(
            f"model {config.model_name_or_path}",
            got=f"an architecture that is no causal language model ({type(described).__name__})",
            expected="a decoder that transformers builds from config.json alone",
            fix="name another model",
        ) from error


def bytes_of(module: Any, *, trained: bool = False) -> int:
    """Bytes of a module's parameters and buffers, tied ones once; or of the trained parameters alone."""
    if module is None:
        return 0
    tensors = (
        [p for p in module.parameters() if p.requires_grad] if trained else [*module.parameters(), *module.buffers()]
    )
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
