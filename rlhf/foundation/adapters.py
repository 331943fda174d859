"""PEFT adapters: reading one from a directory, and merging one into its base so that the pair is an ordinary model."""

from __future__ import annotations

import copy
import json
import sys
import warnings
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import cached_file, find_adapter_config_file

from rlhf.foundation.causal_lm import next_token_logprobs, probe_ids, tolerance
from rlhf.foundation.errors import InputError
from rlhf.foundation.four_bit import dequantised, four_bit_in
from rlhf.foundation.load_errors import LOAD_ERRORS, libraries_in_silence, load_failure


def is_adapter(model: Any) -> bool:
    """Whether the model carries a PEFT adapter (which it can only if the library has been imported)."""
    peft = sys.modules.get("peft")
    return peft is not None and isinstance(model, peft.PeftModel)


def adapter_base(name_or_path: str) -> str | None:
    """The base model that an adapter's directory or hub name names; None where there is no adapter.

    Raises InputError when adapter_config.json is damaged or names no base.
    """
    try:
        with libraries_in_silence():
            path = find_adapter_config_file(name_or_path)
    except LOAD_ERRORS:  # no such name: loading it as a model will say so
        return None
    if path is None:
        return None
    try:
        config = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise load_failure(name_or_path, "an adapter", error) from error
    base = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    if not isinstance(base, str) or not base:
        raise InputError(
            f"adapter {name_or_path}",
            got="an adapter_config.json that names no base model",
            expected="`base_model_name_or_path`, a model directory or a hub name",
            fix="write it there",
        )
    return base


def load_adapter(base: PreTrainedModel, name_or_path: str) -> Any:
    """`base` with the adapter of a directory or hub name (safetensors), in eval mode, nothing trainable.

    Raises InputError when its files are missing or damaged, or do not fit the base.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from peft.utils import load_peft_weights

    kind = "an adapter in safetensors"
    try:
        if cached_file(name_or_path, "adapter_model.safetensors", _raise_exceptions_for_missing_entries=False) is None:
            raise FileNotFoundError("no adapter_model.safetensors")
        with libraries_in_silence(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Found missing adapter keys")  # told below, in one line
            adapted = PeftModel.from_pretrained(base, name_or_path).eval()
            held = load_peft_weights(name_or_path, device="cpu")
            wanted = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    except LOAD_ERRORS as error:
        raise load_failure(name_or_path, kind, error) from error
    absent = sorted(wanted.keys() - held.keys())
    if absent:
        raise InputError(
            f"adapter {name_or_path}",
            got=f"no weights for {absent[0]}" + (f" and {len(absent) - 1} more" if len(absent) > 1 else ""),
            expected="every weight that its adapter_config.json asks for",
            fix="name a directory whose config and weights belong together",
        )
    return adapted


def merged(model: Any, name: str) -> PreTrainedModel:
    """An adapter and its base as one ordinary model (the same object, changed in place), tried on a probe.

    A base in four bits becomes the full numbers that these stand for; PEFT would round the sum to four bits again.
    Raises InputError when PEFT cannot merge this kind of adapter, or when the log-probs move beyond rounding.
    """
    ids = probe_ids(model)
    before = next_token_logprobs(model, ids)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*(no longer tied|tie_word_embeddings)")  # meant: see _untie
            model = on_full_numbers(model) if four_bit_in(model) is not None else model
            _untie(model.get_base_model())
            plain = cast(PreTrainedModel, model.merge_and_unload(safe_merge=True))
        moved = float((next_token_logprobs(plain, ids) - before).abs().max())
    except (ValueError, AttributeError, NotImplementedError, RuntimeError, TypeError) as error:
        raise _cannot_merge(name, str(error) or type(error).__name__) from error
    if not moved <= tolerance(plain) * max(1.0, float(before.abs().max())):
        raise _cannot_merge(name, f"log-probs that move by {moved:.2g} nats")
    return plain.requires_grad_(True)  # as a model is when it is loaded; PEFT froze it


def on_full_numbers(model: Any) -> Any:
    """The adapter on its base dequantised. Raises ValueError where there are several adapters."""
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    if len(model.peft_config) > 1:
        raise ValueError("several adapters on a base in four bits")
    [(adapter, config)] = model.peft_config.items()
    config = copy.copy(config)
    config.base_model_name_or_path = None  # PEFT warns where the base is found elsewhere than it was; it takes its name
    held = get_peft_model_state_dict(model, adapter_name=adapter)
    with torch.random.fork_rng():  # what it begins with is overwritten
        again: Any = get_peft_model(dequantised(model.unload()), config, adapter_name=adapter)
    set_peft_model_state_dict(again, held, adapter_name=adapter)
    return again.eval()


def copied(model: Any) -> Any:
    """A copy of a model, with adapter or without, that shares no tensor with it."""
    for module in model.modules():
        # PEFT keeps views of the embedding's adapter beside one that is tied to it; they are no leaves of the graph.
        views = getattr(module, "kwargs", {}).get("tied_adapter") if is_adapter(model) else None
        if views:
            module.kwargs["tied_adapter"] = {name: view.detach() for name, view in views.items()}
    return copy.deepcopy(model)


def _untie(model: PreTrainedModel) -> None:
    """Give the output layer weights of its own where it or the embedding is adapted: merging changes one of them.

    PEFT sees afterwards that they differ, and says so in the config.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers: list[Any] = [model.get_input_embeddings(), model.get_output_embeddings()]  # type: ignore[no-untyped-call]
    bases: list[Any] = [layer.get_base_layer() if isinstance(layer, BaseTunerLayer) else layer for layer in layers]
    read, write = bases
    if bases != layers and read.weight is write.weight:
        write.weight = nn.Parameter(read.weight.detach().clone(), requires_grad=False)


def _cannot_merge(name: str, reason: str) -> InputError:
    return InputError(
        f"adapter {name}",
        got=f"{reason.splitlines()[0].rstrip('.')} when it was merged into its base",
        expected="an adapter that PEFT can merge, such as LoRA",
        fix="merge it yourself, save the model, and name that directory",
    )
