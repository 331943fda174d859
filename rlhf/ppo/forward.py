"""One forward pass over prompts and completions: logits of every completion token, or readings that hold none.

Shapes: B completions, P prompt tokens (left-padded), T completion tokens (right-padded), N real completion tokens,
V vocabulary, H hidden.

Where a model is a trunk and a head (foundation/trunk_and_head.py) only the trunk reads the batch; the head is given the
states of real tokens, a tile of them at a time, so neither padding nor the width of the vocabulary costs memory.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlhf.foundation.causal_lm import reads_left_padding
from rlhf.foundation.trunk_and_head import TrunkAndHead, trunk_and_head
from rlhf.language_model.sampler import position_ids, suppress
from rlhf.ppo.config import PPOConfig
from rlhf.ppo.critic import ActorCritic, ValuedOutput
from rlhf.ppo.precision import forward_precision, full, head_logits, trunk_precision
from rlhf.ppo.sharding import is_cut

CPU_LOGITS_MB = 32  # stays in the cache: 256 was slower
ACCELERATOR_LOGITS_MB = 2048
LEAST_TILE = 64  # tokens; for fewer the head's weights pass through the processor too often
FLOATS_PER_STATE = 20  # that a block holds beside each number of its input: projections, activations, scores


class Forward(NamedTuple):
    """What one forward pass says of each completion token."""

    logits: Tensor  # (B, T, V)
    values: Tensor | None  # (B, T), of an `ActorCritic`


class Reading(NamedTuple):
    """The same of the real tokens, in the order of `tensor[mask]`; logits at temperature 1, made as they are asked."""

    logits: Callable[[slice], Tensor]  # of some of the N tokens, (n, V)
    values: Tensor | None  # (B, T)


def completion_logits(
    model: Any, prompt_ids: Tensor, prompt_mask: Tensor, completion_ids: Tensor, config: PPOConfig
) -> Tensor:
    """Logits that predict each completion token, tempered as in sampling: (B, T, V)."""
    return completion_forward(model, prompt_ids, prompt_mask, completion_ids, config).logits


def completion_forward(
    model: Any, prompt_ids: Tensor, prompt_mask: Tensor, completion_ids: Tensor, config: PPOConfig
) -> Forward:
    """The same with the critic's values, where `model` is an `ActorCritic`."""
    logits, values = _forward(model, prompt_ids, prompt_mask, completion_ids, config)
    logits = suppress(logits, config.suppress_tokens)
    return Forward(logits if config.temperature == 1 else logits / config.temperature, values)


def read(
    model: Any,
    prompt_ids: Tensor,
    prompt_mask: Tensor,
    completion_ids: Tensor,
    mask: Tensor,
    config: PPOConfig,
    *,
    states: Tensor | None = None,
) -> Reading:
    """One pass of `model` (a causal LM, or an `ActorCritic`) over some completions, whose real tokens are `mask`'s.

    With `states` (B, T, H), what the head reads to predict each token, the policy's trunk has passed already.
    """
    split = split_of(model)
    if split is None:
        logits, values = _forward(model, prompt_ids, prompt_mask, completion_ids, config)
        kept = logits[mask]
        return Reading(lambda tokens: suppress(kept[tokens], config.suppress_tokens), values)
    states, values = completion_states(model, split, prompt_ids, prompt_mask, completion_ids, config, states)
    real = states[mask]  # (N, H), in one piece: a head on a slice of states takes a slow batched product

    def logits_of(tokens: slice) -> Tensor:
        with _adapter_as(model):
            return suppress(head_logits(split.head, real[tokens]), config.suppress_tokens)

    return Reading(logits_of, values)


def split_of(model: Any) -> TrunkAndHead | None:
    """Trunk and head of the policy in `model`, where it has them and they can be called apart."""
    if is_cut(model):
        return None
    return trunk_and_head(model.policy if isinstance(model, ActorCritic) else model)


def completion_states(
    model: Any,
    split: TrunkAndHead,
    prompt_ids: Tensor,
    prompt_mask: Tensor,
    completion_ids: Tensor,
    config: PPOConfig,
    states: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """What the head reads to predict each completion token, (B, T, H), and a critic's values of it, (B, T)."""
    inputs, length = _inputs(prompt_ids, prompt_mask, completion_ids), completion_ids.shape[1]
    with trunk_precision(config, prompt_ids.device):
        if states is None:
            with _adapter_as(model):
                states = split.trunk(**inputs).last_hidden_state[:, -length - 1 : -1]
        return states, model.values_of(states, inputs) if isinstance(model, ActorCritic) else None


def _adapter_as(model: Any) -> Any:
    """The adapter on or off as `model` has it when it is called (policy.AdapterOff)."""
    return model.off() if hasattr(model, "off") else nullcontext()


def _inputs(prompt_ids: Tensor, prompt_mask: Tensor, completion_ids: Tensor) -> dict[str, Any]:
    """Of a model that reads prompt and completion. Tokens after the end token only see what stands before them, so no
    mask is needed there."""
    mask = torch.cat([prompt_mask, torch.ones_like(completion_ids, dtype=torch.bool)], 1)
    return {
        "input_ids": torch.cat([prompt_ids, completion_ids], 1),
        "attention_mask": None if bool(prompt_mask.all()) else mask,
        "position_ids": position_ids(mask),
        "use_cache": False,
    }


def _forward(model: Any, prompt_ids: Tensor, prompt_mask: Tensor, completion_ids: Tensor, config: PPOConfig) -> Forward:
    """Of the whole model, in float32 at least."""
    masked = bool(prompt_mask.all()) or reads_left_padding(model)
    with forward_precision(config, model, prompt_ids.device):
        found = (_forward_masked if masked else _forward_without_mask)(model, prompt_ids, prompt_mask, completion_ids)
    return Forward(full(found.logits), found.values)


def _forward_masked(model: Any, prompt_ids: Tensor, prompt_mask: Tensor, completion_ids: Tensor) -> Forward:
    length = completion_ids.shape[1]
    output = model(**_inputs(prompt_ids, prompt_mask, completion_ids), logits_to_keep=length + 1)
    values = output.values[:, -length - 1 : -1] if isinstance(output, ValuedOutput) else None
    return Forward(output.logits[:, -length - 1 : -1], values)


def _forward_without_mask(model: Any, prompt_ids: Tensor, prompt_mask: Tensor, completion_ids: Tensor) -> Forward:
    """The same for a model that reads masked tokens: each row's padding is moved behind it, where no token sees it.

    Costs the logits of as many more places as the longest padding has.
    """
    ids, length = torch.cat([prompt_ids, completion_ids], 1), completion_ids.shape[1]
    pads = (~prompt_mask).sum(1, keepdim=True)  # (B, 1)
    places = torch.arange(ids.shape[1], device=ids.device)[None]
    kept = length + 1 + int(pads.max())
    output = model(
        input_ids=ids.gather(1, (places + pads) % ids.shape[1]),
        attention_mask=None,
        position_ids=places.expand_as(ids),
        use_cache=False,
        logits_to_keep=kept,
    )
    before = torch.arange(kept - length - 1, kept - 1, device=ids.device) - pads  # (B, length), among the kept places
    logits = output.logits[:, -kept:]
    logits = logits.gather(1, before[..., None].expand(-1, -1, logits.shape[-1]))
    values = output.values[:, -kept:].gather(1, before) if isinstance(output, ValuedOutput) else None
    return Forward(logits, values)


# -- how much at once --------------------------------------------------------------------------------------------------


def logits_bytes(config: PPOConfig, device: torch.device) -> int:
    """What logits may take at once."""
    return (config.logits_memory_mb or (CPU_LOGITS_MB if device.type == "cpu" else ACCELERATOR_LOGITS_MB)) * 2**20


def number_size(config: PPOConfig) -> int:
    """Bytes of a number."""
    return 8 if config.dtype == "float64" else 4


def rows_per_chunk(length: int, vocabulary: int, config: PPOConfig, device: torch.device, times: int = 1) -> int:
    """How many completions' logits fit `times` x `logits_memory_mb`, counting the five float copies that are held."""
    return max(1, times * logits_bytes(config, device) // (5 * length * vocabulary * number_size(config)))


def rows_per_trunk(places: int, width: int, config: PPOConfig, device: torch.device, times: int = 1) -> int:
    """How many rows of `places` tokens a trunk of `width` hidden numbers (those of all layers where it is trained)
    reads at once, in `times` the same memory."""
    return max(1, times * logits_bytes(config, device) // (FLOATS_PER_STATE * places * width * number_size(config)))


def tokens_per_tile(vocabulary: int, config: PPOConfig, device: torch.device) -> int:
    """How many tokens' logits are made at once."""
    return max(LEAST_TILE, logits_bytes(config, device) // (5 * vocabulary * number_size(config)))
