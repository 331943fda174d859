"""A causal language model as a trunk and an output head, so that nobody need hold the logits of a whole batch.

Shapes: B texts, S tokens, H hidden, V vocabulary.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlhf.foundation.causal_lm import language_model_in, probe_ids, reads_left_padding


class TrunkAndHead(NamedTuple):
    """`head(trunk(...).last_hidden_state)` are the model's logits, (B, S, H) to (B, S, V)."""

    trunk: Any
    head: nn.Module


_known: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def trunk_and_head(model: Any) -> TrunkAndHead | None:
    """Trunk and head of the transformers model inside `model` (a wrapper, an adapter), or None where it has none.

    Tried once a model, on its probe: the head on the trunk's states must give the model's logits bit for bit, with
    padding and without, so a model that scales or caps its logits behind the head is read as a whole.
    """
    inner: Any = language_model_in(model)
    if not isinstance(inner, PreTrainedModel) or not reads_left_padding(inner):
        return None
    whole: Any = inner
    trunk, head = whole.base_model, whole.get_output_embeddings()
    if trunk is inner or not isinstance(head, nn.Module):
        return None
    if inner not in _known:
        _known[inner] = _gives_its_logits(inner, trunk, head)
    return TrunkAndHead(trunk, head) if _known[inner] else None


@torch.no_grad()
def _gives_its_logits(model: Any, trunk: Any, head: nn.Module) -> bool:
    ids = probe_ids(model)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        return all(_same(model, trunk, head, ids, mask) for mask in probe_masks(ids))
    finally:
        for module, mode in modes:
            module.training = mode


def probe_masks(ids: Tensor) -> list[Tensor | None]:
    """None, and a mask (1, S) that hides the first half of a probe."""
    padded = torch.ones_like(ids)
    padded[:, : ids.shape[1] // 2] = 0
    return [None, padded]


def _same(model: Any, trunk: Any, head: nn.Module, ids: Tensor, mask: Tensor | None) -> bool:
    positions = torch.arange(ids.shape[1], device=ids.device)[None]
    inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions, "use_cache": False}
    with torch.autocast(ids.device.type, enabled=False):
        states = trunk(**inputs, output_hidden_states=True)
        last = getattr(states, "last_hidden_state", None)
        if last is None or not torch.equal(last, states.hidden_states[-1]):  # a shared critic reads the second
            return False
        return torch.equal(head(last), model(**inputs).logits)
