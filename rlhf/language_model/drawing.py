"""Drawing the next token by inversion of its cumulative distribution, with few passes over a large vocabulary.

Shapes: B texts, V vocabulary. Log-probs in nats.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

BLOCK = 256  # tokens whose weights are added up first: a running sum over a whole vocabulary is ten times as slow


def draw(logits: Tensor, uniform: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """One token a row of logits (B, V) at u (B,) in [0, 1).

    Returns ids (B,), their log-probs (B,) at temperature 1, and whether the row is a distribution at all (B,) bool; if
    not, its id says nothing.
    """
    top = logits.amax(-1, keepdim=True)
    weights = logits - top
    if temperature != 1:
        weights /= temperature
    drawn = invert_cdf(weights.exp_(), uniform)
    total = weights.sum(-1) if temperature == 1 else (logits - top).exp_().sum(-1)
    at_one = (logits.gather(-1, drawn[:, None]) - top).squeeze(-1) - total.log()
    return drawn, at_one, total.isfinite()


def invert_cdf(weights: Tensor, uniform: Tensor) -> Tensor:
    """Sample by inversion: the first token whose cumulative weight exceeds u times the total.

    weights (B, V) are probabilities times any positive number, uniform (B,) in [0, 1); returns ids (B,). A token of
    weight 0 is never returned.
    """
    uniform = uniform[:, None].to(weights.dtype)
    width = min(BLOCK, weights.shape[-1])
    blocks = nn.functional.pad(weights, (0, -weights.shape[-1] % width)).view(len(weights), -1, width)  # (B, V/w, w)
    sums = blocks.sum(-1)
    block, rest = _first_beyond(sums, uniform * sums.cumsum(-1)[:, -1:])
    inside = blocks.gather(1, block[..., None].expand(-1, -1, width)).squeeze(1)  # (B, w)
    return (block * width + _first_beyond(inside, rest)[0]).squeeze(-1)


def _first_beyond(weights: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the first of (B, n) where the running sum exceeds the target (B, 1), and what of it was left there."""
    cdf = weights.cumsum(-1)
    last_possible = torch.searchsorted(cdf, cdf[:, -1:].contiguous())  # rounding may push a target up to the total
    found = torch.searchsorted(cdf, target, right=True).minimum(last_possible).clamp(max=weights.shape[-1] - 1)
    return found, (target - (cdf.gather(-1, found) - weights.gather(-1, found))).clamp(min=0)
