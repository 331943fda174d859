"""A base model in four bits below an adapter: loaded, known again, named beside the adapter, and as full numbers.

Dettmers et al. 2023, "QLoRA" (arXiv 2305.14314), by bitsandbytes. How this differs from what transformers sets up:
1. Weights are quantised on the CPU, wherever they go then, so that one machine's device does not decide on the codes.
2. A layer's forward is our own. On CPUs with AVX512-BF16 bitsandbytes (0.50.2) packs a layer in eval mode at its first
   pass without gradients, and multiplies it from then on, in bfloat16, by an operator that has no derivative: what
   comes before the layer gets no gradient through it, and no error. Models here are in eval mode throughout.
3. That forward multiplies in its input's dtype, or in autocast's where that is on, and rounds no bias in place;
   transformers fixes one dtype at loading, and the KL of the float32 weights beside `--bf16` would be of bfloat16
   products.
4. Full numbers of GPT-2's layers are a Conv1D again, as its files hold them.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.utils import cached_file

from rlhf.foundation.causal_lm import language_model_in
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_as
from rlhf.foundation.load_errors import LOAD_ERRORS, libraries_in_silence

FILE = "base_quantization.json"
QUANT_TYPES = ("nf4", "fp4")
BLOCK = 64  # numbers that share one constant, float32


@dataclass(frozen=True, slots=True)
class FourBit:
    """How a base is quantised; everything else is bitsandbytes' own choice (blocks of 64, constants in float32)."""

    quant_type: str = "nf4"

    @classmethod
    def of(cls, said: Any) -> FourBit | None:
        """From options or their record, `load_in_4bit` and `bnb_4bit_quant_type`; None where the base is whole."""
        return cls(said.get("bnb_4bit_quant_type", "nf4")) if said.get("load_in_4bit") else None

    def arguments(self) -> dict[str, Any]:
        """What transformers' `from_pretrained` is given."""
        from transformers import BitsAndBytesConfig

        asked: Any = BitsAndBytesConfig
        how = asked(load_in_4bit=True, bnb_4bit_quant_type=self.quant_type, bnb_4bit_compute_dtype=torch.float32)
        return {"quantization_config": how, "device_map": {"": "cpu"}}

    def write(self, directory: Path) -> None:
        """Beside an adapter, as arguments of transformers' BitsAndBytesConfig."""
        said = {"load_in_4bit": True, "bnb_4bit_quant_type": self.quant_type, "bnb_4bit_compute_dtype": "float32"}
        (directory / FILE).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")


def base_of_adapter(name_or_path: str) -> FourBit | None:
    """How the base below an adapter's directory or hub name was quantised; None where it was whole.

    Raises InputError when its file is damaged.
    """
    try:
        with libraries_in_silence():
            path = cached_file(name_or_path, FILE, _raise_exceptions_for_missing_entries=False)
    except LOAD_ERRORS:  # no such name: loading the adapter will say so
        return None
    return read_as(Path(path), _as_written) if path is not None else None


def _as_written(said: Any) -> FourBit:
    found = FourBit.of(said)
    if found is None or found.quant_type not in QUANT_TYPES:
        raise ValueError(f"no load_in_4bit with one of {', '.join(QUANT_TYPES)}")
    return found


def four_bit_in(model: Any) -> FourBit | None:
    """How the base of a model in memory is quantised; None where it is whole."""
    inner = language_model_in(model)
    if not getattr(inner, "is_loaded_in_4bit", False):
        return None
    return FourBit(inner.config.quantization_config.bnb_4bit_quant_type)


def made_ready(model: Any, name: str) -> None:
    """Have each quantised layer compute as the list above says, in place, and let go of the file's numbers.

    What was not quantised is a view of the mapped file, all of which would stay in memory for it.
    Raises InputError where the weights were quantised before, or none of them was.
    """
    quantised = _layers(model)
    if model.hf_quantizer.pre_quantized or not quantised:
        raise InputError(
            f"model {name}",
            got="weights that are quantised already" if quantised else "no linear layer that bitsandbytes quantises",
            expected="a decoder in full precision, as --load_in_4bit quantises it",
            fix="name the model that it was made from" if quantised else "leave --load_in_4bit out",
        )
    for _, layer in quantised:
        layer.__class__ = _differentiable_layer()
    codes = {id(layer.weight) for _, layer in quantised}
    for tensor in (*model.parameters(), *model.buffers()):
        if id(tensor) not in codes:
            tensor.data = tensor.data.clone()


@functools.cache
def _differentiable_layer() -> Any:
    import bitsandbytes

    class Linear4bit(bitsandbytes.nn.Linear4bit):  # type: ignore[misc]
        """See 2 and 3 at the top of the file."""

        def forward(self, x: Tensor) -> Tensor:
            """x Wᵀ + b with the numbers that W's four bits stand for; of the dtype of `x`, (..., in) to (..., out)."""
            device = x.device.type
            dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
            bias = None if self.bias is None else self.bias.to(dtype)
            weight = self.weight
            found: Tensor = bitsandbytes.matmul_4bit(x.to(dtype), weight, bias=bias, quant_state=weight.quant_state)
            return found.to(x.dtype)

    return Linear4bit


def constants_of(model: Any) -> dict[str, Tensor]:
    """Quantisation constants by their names in `state_dict`, which are no parameters and no buffers."""
    if four_bit_in(model) is None:
        return {}
    prefixes = tuple(f"{name}.weight." for name, _ in _layers(model))
    return {name: tensor for name, tensor in model.state_dict().items() if name.startswith(prefixes)}


def _layers(model: Any) -> list[tuple[str, Any]]:
    import bitsandbytes

    return [(name, part) for name, part in model.named_modules() if isinstance(part, bitsandbytes.nn.Linear4bit)]


def dequantised(model: Any) -> Any:
    """The model with the numbers that its four bits stand for, an ordinary one (the same object, changed in place)."""
    for name, layer in _layers(model):
        model.set_submodule(name, _as_full_numbers(layer))
    model.hf_quantizer.remove_quantization_config(model)
    model.is_loaded_in_4bit = False
    return model


def _as_full_numbers(layer: Any) -> nn.Module:
    from bitsandbytes.functional import dequantize_4bit
    from transformers.pytorch_utils import Conv1D

    weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    conv: Any = Conv1D
    with torch.device("meta"):
        if layer.source_cls is Conv1D:
            plain: nn.Module = conv(layer.out_features, layer.in_features)
            weight = weight.T.contiguous()
        else:
            plain = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
    plain.weight = nn.Parameter(weight, requires_grad=False)
    if layer.bias is not None:
        plain.bias = layer.bias
    return plain
