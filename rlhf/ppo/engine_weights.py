"""The policy's weights as another program takes them: whole, under the names of the plain model, adapters merged.

How this differs from TRL's `VLLMGeneration._iter_named_params`, in whose place it stands:
1. An adapter is merged into one layer at a time, in a copy, and the base's weights are put back as they were. Merging
   and unmerging (W + BA) - BA leaves rounding behind at every rollout, in the original too where that is the model with
   its adapter off.
2. What cannot be given whole and plain is an InputError, not left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from rlhf.foundation.adapters import is_adapter
from rlhf.foundation.errors import InputError
from rlhf.ppo.sharding import is_cut, whole


@torch.no_grad()
def plain_weights(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Name and tensor of each parameter, one at a time; tied ones once. Of a cut model every process must iterate."""
    if not is_adapter(model):
        for name, parameter in model.named_parameters():
            yield name, whole(parameter).detach()
        return
    from peft.tuners.tuners_utils import BaseTunerLayer

    base, seen = model.get_base_model(), set[int]()
    adapted = {name: module for name, module in base.named_modules() if isinstance(module, BaseTunerLayer)}
    for name, module in base.named_modules():
        if any(name.startswith(f"{outer}.") for outer in adapted):
            continue
        layer: Any = module
        held = layer.get_base_layer() if name in adapted else layer
        parameters = dict(held.named_parameters(recurse=False))
        found = merged_parameters(layer) if name in adapted else parameters
        for own, parameter in parameters.items():
            if id(parameter) not in seen:  # the model's own, which outlives this; a copy's number comes again
                seen.add(id(parameter))
                yield f"{name}.{own}".lstrip("."), found[own].detach()


def merged_parameters(layer: Any) -> dict[str, Tensor]:
    """Copies of an adapted layer's own parameters with the adapter merged in; the layer stays bit for bit as it is."""
    own = dict(layer.get_base_layer().named_parameters(recurse=False))
    before = {name: parameter.detach().clone() for name, parameter in own.items()}
    layer.merge()
    try:
        own = dict(layer.get_base_layer().named_parameters(recurse=False))
        return {name: parameter.detach().clone() for name, parameter in own.items()}
    finally:
        layer.unmerge()
        for name, parameter in layer.get_base_layer().named_parameters(recurse=False):
            parameter.copy_(before[name])


def require_plain(model: Any) -> None:
    """Raise InputError for an adapter whose weights do not merge into a plain model of the same shape, or is cut."""
    if not is_adapter(model):
        return
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    base = model.get_base_model()
    head = base.get_output_embeddings()
    tied = getattr(base.config, "tie_word_embeddings", False)
    ends = [base.get_input_embeddings(), head]
    faults = {
        "an adapter cut over processes (FSDP2)": is_cut(model),
        "an adapter with modules that are trained whole (modules_to_save, trainable tokens)": any(
            isinstance(module, AuxiliaryTrainingWrapper) for module in model.modules()
        ),
        "an adapter on embeddings that input and output share": tied
        and any(isinstance(end, BaseTunerLayer) for end in ends),
    }
    for fault, there in faults.items():
        if there:
            raise InputError(
                "--use_vllm",
                got=fault,
                expected="weights that merge into the plain model",
                fix="adapt linear layers alone, in processes that hold whole models, or leave --use_vllm out",
            )
