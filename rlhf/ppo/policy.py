"""What is trained, and what it is compared with: all weights, the last layer, or an adapter; and the original."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import nn

from rlhf.foundation.adapters import copied, is_adapter, merged
from rlhf.foundation.causal_lm import next_token_logprobs, probe_ids, require_usable, settle
from rlhf.foundation.errors import InputError
from rlhf.foundation.four_bit import FourBit
from rlhf.foundation.model_directory import load_causal_lm, load_tokenizer
from rlhf.foundation.model_pair import LanguageModel


class Original(NamedTuple):
    """The model that a run begins with, in eval mode, its tokenizer, and its name for messages and files."""

    model: Any
    tokenizer: Any
    source: str


def load_original(
    model: Any, tokenizer: Any, *, dtype: str, another: bool, four_bit: FourBit | None = None
) -> Original:
    """A model by name, path or as an object, fit to be sampled and scored; `another` says that an adapter will follow.

    Raises InputError when it is not, or an object comes without a tokenizer, or where one is to be in four bits.
    """
    if four_bit is not None and not isinstance(model, (str, os.PathLike)):
        raise InputError(
            "--load_in_4bit",
            got="a model in memory",
            expected="a directory or hub name, from which rungs find their base again",
            fix="save the model and give its directory",
        )
    if isinstance(model, LanguageModel):
        tokenizer, source = tokenizer or load_tokenizer(model), model.name
        return _usable(load_causal_lm(model, dtype=getattr(torch, dtype)), tokenizer, source, another=another)
    name = os.fspath(model) if isinstance(model, (str, os.PathLike)) else None
    if name is None and tokenizer is None:
        raise InputError("processing_class", got="None", expected="a tokenizer", fix="give one beside a model object")
    source = name if name is not None else str(getattr(model.config, "_name_or_path", "") or "an object")
    tokenizer = tokenizer if tokenizer is not None else load_tokenizer(source)
    if name is not None:
        model = load_causal_lm(name, dtype=getattr(torch, dtype), four_bit=four_bit)
    elif getattr(model, "is_quantized", False):
        raise InputError(
            f"model {source}",
            got="an object whose weights are quantised",
            expected="one in full precision, or a directory with --load_in_4bit",
            fix="give its directory by name and load_in_4bit=True",
        )
    return _usable(model, tokenizer, source, another=another)


def _usable(model: Any, tokenizer: Any, source: str, *, another: bool) -> Original:
    model = without_adapter(model, source, another=another).eval()
    settle(model)
    require_usable(model, tokenizer, source)
    return Original(model, tokenizer, source)


class AdapterOff:
    """The original as the same model with its adapter switched off: no second copy of the weights.

    Right only if the adapter changed nothing at the start and nothing else can move (`reference_of` sees to that).
    """

    def __init__(self, model: Any) -> None:
        self.model, self.modules = model, model.modules

    def __call__(self, **inputs: Any) -> Any:
        """Forward without the adapter."""
        with self.off():
            return self.model(**inputs)

    def off(self) -> AbstractContextManager[None]:
        """While it lasts the model's parts, called one by one, are without the adapter too."""
        context: AbstractContextManager[None] = self.model.disable_adapter()
        return context


def reference_of(model: Any) -> Callable[..., Any]:
    """The frozen original of a policy that is about to be trained.

    The adapter is switched off instead of copying the model where that is the original and stays it: it leaves a
    probe's logits exactly as they are, and nothing is trained but the adapter's own tensors.
    """
    if is_adapter(model) and not trained_outside_adapter(model):
        ids = probe_ids(model)
        if torch.equal(next_token_logprobs(model, ids), next_token_logprobs(AdapterOff(model), ids)):
            return AdapterOff(model)
    reference: nn.Module = copied(model)
    return reference.requires_grad_(False)


def trained_outside_adapter(model: Any) -> list[str]:
    """Names of trained parameters that stay in place when the adapter is switched off, or may: biases of the base
    (LoRA's `bias`), whole modules and token rows that are saved with it, and whatever else was set to train."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    modules: list[Any] = list(model.modules())
    own = {
        id(parameter)
        for layer in modules
        if isinstance(layer, BaseTunerLayer)
        for name in layer.adapter_layer_names
        for parameter in getattr(layer, name, nn.ModuleDict()).parameters()
    }
    wrappers = [module for module in modules if isinstance(module, AuxiliaryTrainingWrapper)]
    own -= {id(parameter) for wrapper in wrappers for parameter in wrapper.parameters()}
    return [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in own]


def without_adapter(model: Any, name: str, *, another: bool) -> Any:
    """The model that is to be trained; an adapter it has already is merged when `another` is to be put on it.

    Raises InputError on an adapter that cannot be merged or was loaded by transformers alone (saving such a model
    leaves its base out), and on prompts that are learnt, which PPO's sampler cannot place.
    """
    prompt = is_adapter(model) and any(config.is_prompt_learning for config in model.peft_config.values())
    if prompt or getattr(model, "_hf_peft_config_loaded", False):
        raise InputError(
            f"model {name}",
            got="an adapter that learns a prompt" if prompt else "an adapter that transformers put into the model",
            expected="a plain model, or a peft.PeftModel with adapted layers such as LoRA's",
            fix="choose LoRA" if prompt else "give the adapter's directory by name: it is merged into its base",
        )
    return merged(model, name) if another and is_adapter(model) else model


def require_trainable(model: Any, name: str) -> None:
    """Raise InputError when nothing of the model would be trained."""
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError(
            f"model {name}",
            got="no trainable parameters",
            expected="at least one with requires_grad",
            fix="load the adapter with is_trainable=True, or give its directory by name and --use_peft for a new one",
        )


def prepare_four_bit(model: Any) -> Any:
    """peft's preparation of a quantised base: all of it frozen, what is not quantised in float32.

    Without its gradient checkpointing, which acts in training mode alone; recomputing.py has ours, never reentrant, so
    the inputs need no gradient.
    """
    import peft

    prepare: Any = peft.prepare_model_for_kbit_training
    return prepare(model, use_gradient_checkpointing=False)


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
