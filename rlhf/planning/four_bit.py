"""Linear layers in four bits as `rlhf plan` sees them: the bytes that stand, and a pass that makes the full numbers.

bitsandbytes need not be installed: sizes are those of its format, half a byte a number and a float32 constant for each
64 (rlhf/foundation/four_bit.py). On a CPU each pass makes all of a weight, and its backward pass once more; a GPU's
kernels may make less.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from rlhf.foundation.four_bit import BLOCK


class FourBitLinear(nn.Linear):
    """Of (in) to (out) numbers; `weight` are the codes."""

    def __init__(self, inputs: int, outputs: int, bias: nn.Parameter | None) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features, self.bias = inputs, outputs, bias  # type: ignore[assignment]
        numbers = inputs * outputs
        self.weight = nn.Parameter(torch.empty(-(-numbers // 2), 1, dtype=torch.uint8), requires_grad=False)
        self.register_buffer("absmax", torch.empty(-(-numbers // BLOCK)))

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        found: Tensor = _Product.apply(x, (self.out_features, self.in_features))  # type: ignore[no-untyped-call]
        return found if self.bias is None else found + self.bias


class _Product(torch.autograd.Function):
    """x Wᵀ, keeping neither x nor W."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, shape: tuple[int, int]) -> Tensor:
        ctx.shape = shape
        return functional.linear(x, x.new_empty(shape))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient @ gradient.new_empty(ctx.shape), None


def in_four_bits(model: Any) -> Any:
    """The model with every linear layer but its output head so, in place, as transformers chooses them."""
    head = model.get_output_embeddings()
    for name, part in list(model.named_modules()):
        if part is not head and (type(part) is nn.Linear or isinstance(part, Conv1D)):
            outputs, inputs = part.weight.shape if type(part) is nn.Linear else reversed(part.weight.shape)
            with part.weight.device:
                model.set_submodule(name, FourBitLinear(inputs, outputs, part.bias))
    return model
