"""The KL at every prefix as a part of the loss: over the whole vocabulary, with its gradient, a tile at a time.

N real tokens, V vocabulary. Neither distribution outlives its tile: the backward pass makes them again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from rlhf.language_model.sampler import chunks

Logits = Callable[[slice], Tensor]  # of some of the N tokens, (n, V)


def prefix_kl(count: int, policy: Logits, original: Logits, tokens_at_once: int) -> Tensor:
    """KL_n = Σ_v π(v|prefix) log(π(v|prefix)/ref(v|prefix)) of `count` prefixes, (N,); gradients reach the policy."""
    if count == 0:
        return policy(slice(0, 0)).sum(-1)
    tiles = [slice(tile.start, tile.stop) for tile in chunks(count, tokens_at_once)]
    return torch.cat([cast(Tensor, checkpoint(_of_tile, policy, original, own, use_reentrant=False)) for own in tiles])


def _of_tile(policy: Logits, original: Logits, own: slice) -> Tensor:
    with torch.no_grad():
        logq = original(own).log_softmax(-1)
    logp = policy(own).log_softmax(-1)
    return (logp.exp() * (logp - logq)).sum(-1)
