"""What is trained, and what it is compared with: all weights, the last layer, or an adapter; and the original."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from rlhf.foundation.errors import InputError


class AdapterOff:
    """The original as the same model with its adapter switched off: no second copy of the weights.

    Right only if the adapter changed nothing at the start (`reference_of` sees to that).
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, **inputs: Any) -> Any:
        """Forward without the adapter."""
        with self.model.disable_adapter():
            return self.model(**inputs)


def reference_of(model: Any, probe_ids: list[int]) -> Callable[..., Any]:
    """The frozen original of a policy that is about to be trained.

    For an adapter that leaves a probe's logits exactly as they are the adapter is switched off instead of copying the
    model; an adapter that does not start at zero is part of the original, and a copy is kept.
    """
    if is_adapter(model):
        probe = torch.tensor([probe_ids], device=next(model.parameters()).device)
        with torch.no_grad():
            adapted, plain = model(input_ids=probe).logits, AdapterOff(model)(input_ids=probe).logits
        if torch.equal(adapted, plain):
            return AdapterOff(model)
    reference: nn.Module = copy.deepcopy(model)
    return reference.requires_grad_(False)


def is_adapter(model: Any) -> bool:
    """Whether the model carries a PEFT adapter (which it can only if the library has been imported)."""
    peft = sys.modules.get("peft")
    return peft is not None and isinstance(model, peft.PeftModel)


def add_adapter(model: Any, peft_config: Any, seed: int) -> Any:
    """The model with a PEFT adapter; only the adapter is trained; `seed` fixes its random half.

    Raises InputError when it fits no layer.
    """
    from peft import get_peft_model

    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            adapted = get_peft_model(model, peft_config).eval()
    except ValueError as error:
        raise InputError(
            "peft_config",
            got=str(error),
            expected="target modules that the model has",
            fix="name the model's own linear layers with --lora_target_modules",
        ) from error
    for config in adapted.peft_config.values():
        if isinstance(config.target_modules, set):  # saved in an order that differs from process to process
            config.target_modules = sorted(config.target_modules)
    return adapted


def train_last_layer_only(model: nn.Module) -> list[str]:
    """Freeze everything but the last transformer block and the final norm; returns the names of what is trained.

    The tied embedding stays frozen. Raises InputError when the model's blocks cannot be told.
    """
    base = getattr(model, getattr(model, "base_model_prefix", ""), model)
    children = list(base.named_children())
    lists = [i for i, (_, child) in enumerate(children) if isinstance(child, nn.ModuleList) and len(child)]
    if len(lists) != 1:
        raise InputError(
            "--train_scope last_layer",
            got=f"{type(model).__name__} with {len(lists)} lists of layers",
            expected="a decoder with one list of blocks",
            fix="take --train_scope all, or an adapter",
        )
    place = lists[0]
    blocks = children[place][1]
    assert isinstance(blocks, nn.ModuleList)
    # What follows the blocks is the final norm (rotary tables have no parameters).
    kept: list[nn.Module] = [blocks[-1], *(child for _, child in children[place + 1 :])]
    kept = [module for module in kept if not isinstance(module, nn.Embedding)]
    model.requires_grad_(False)
    for module in kept:
        module.requires_grad_(True)
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]
