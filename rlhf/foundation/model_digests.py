"""Digests of a model's whole content: every number of every tensor, its configuration, tokenizer and chat template."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch

from rlhf.foundation.digests import value_digest
from rlhf.foundation.four_bit import constants_of

Inputs = dict[str, str | None]
MODEL_INPUTS = ("original model's weights", "original model's configuration", "tokenizer", "chat template")
# Of a configuration: what says where it came from, not what it computes.
_ORIGIN = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "_attn_implementation"}
_ORIGIN |= {"base_model_name_or_path", "peft_version", "revision", "inference_mode", "auto_mapping"}


def model_inputs(model: torch.nn.Module, tokenizer: Any) -> Inputs:
    """The original: every number of every tensor, its configuration, its tokenizer and chat template."""
    settings = {name: settings_of(getattr(model, name, None)) for name in ("config", "generation_config")}
    template = value_digest(getattr(tokenizer, "chat_template", None))
    digests = (weights_digest(model), value_digest(settings), tokenizer_digest(tokenizer), template)
    return dict(zip(MODEL_INPUTS, digests, strict=True))


def weights_digest(model: torch.nn.Module) -> str:
    """Names, shapes, kinds and all numbers of a model's parameters, saved buffers and quantisation constants; tied ones
    count once."""
    saved = model.state_dict().keys()
    buffers = [(name, buffer) for name, buffer in model.named_buffers() if name in saved]
    digest = hashlib.sha256()
    named = [*model.named_parameters(), *buffers, *constants_of(model).items()]
    for name, tensor in sorted(named, key=lambda pair: pair[0]):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def tokenizer_digest(tokenizer: Any) -> str:
    """A tokenizer's rules and vocabulary, without the padding and truncation that its last call left set."""
    core = getattr(tokenizer, "backend_tokenizer", None)  # None: one written in Python
    rules = json.loads(core.to_str()) if core is not None else tokenizer.get_vocab()
    rules = {key: value for key, value in rules.items() if core is None or key not in ("padding", "truncation")}
    special = {key: str(value) for key, value in tokenizer.special_tokens_map.items()}
    return value_digest({"rules": rules, "special": special})


def settings_of(config: Any) -> dict[str, Any]:
    """A configuration of transformers or peft without its origin; {} for None."""
    if config is None:
        return {}
    said = config.to_diff_dict() if hasattr(config, "to_diff_dict") else vars(config)  # peft's, or anyone's own
    plain = {key: sorted(map(str, value)) if isinstance(value, set) else value for key, value in said.items()}
    return {key: value for key, value in plain.items() if key not in _ORIGIN}


def identity_of(model: Any, tokenizer: Any, **further: Any) -> dict[str, Any]:
    """What the numbers of a model that scores texts depend on: weights, configuration, tokenizer, chat template."""
    texts = {"tokenizer": tokenizer_digest(tokenizer), "chat": tokenizer.chat_template}
    return {**further, **texts, "weights": weights_digest(model), "config": settings_of(model.config)}
