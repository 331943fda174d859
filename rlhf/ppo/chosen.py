"""The update's forward pass: log-probs, with gradients, of the tokens that were chosen, and a critic's values.

Shapes: B completions, P prompt tokens (left-padded), T completion tokens (right-padded), N real tokens, H hidden,
V vocabulary.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from rlhf.foundation.causal_lm import layer_count, vocabulary_rows, width
from rlhf.foundation.frozen_trunk import SharedTrunk
from rlhf.foundation.trunk_and_head import TrunkAndHead
from rlhf.language_model.sampler import IMPOSSIBLE, chunks, suppress
from rlhf.ppo.config import PPOConfig
from rlhf.ppo.forward import (
    completion_forward,
    completion_states,
    logits_bytes,
    read,
    rows_per_chunk,
    rows_per_trunk,
    split_of,
    tokens_per_tile,
)
from rlhf.ppo.objective import in_place, selected_logprobs
from rlhf.ppo.precision import full, head_logits, is_half, shared_rows
from rlhf.ppo.prefix_kl import Logits, prefix_kl
from rlhf.ppo.recomputing import blocks_to_recompute, recomputed

KEPT_TIMES = 4  # the update may hold so many times what scoring may: logits,
ACTIVATIONS_TIMES = 16  # and what the blocks hold for the backward pass


class Chosen(NamedTuple):
    """Of each completion token; whatever where masked."""

    logprobs: Tensor  # (B, T) nats, tempered as in sampling
    values: Tensor | None  # (B, T), with a critic
    kl: Tensor | None = None  # (B, T) exact at the prefix before each, nats, with --kl_gradient exact


class ChosenTokens(nn.Module):
    """The learner as the optimiser's loss sees it, one module with one forward, so that DDP sees every gradient."""

    def __init__(
        self, learner: nn.Module, config: PPOConfig, shared: SharedTrunk | None = None, original: Any = None
    ) -> None:
        """`learner` is the policy, or an `ActorCritic`; `shared` its trunk, if the last block alone is trained.

        `original` is read too where the gradient of the KL is exact.
        """
        super().__init__()
        self._original = (original,) if config.kl_gradient == "exact" else ()  # in a tuple it is no part of the module
        self.learner, self.config, self._shared = learner, config, shared
        self._recomputed = tuple(blocks_to_recompute(learner)) if config.gradient_checkpointing else ()

    def rows_at_once(self, prompt_width: int, length: int, own: int = 0) -> int:
        """How many completions of `length` tokens go through forward and backward together, of `own` in a step."""
        return rows_at_once(self.learner, self.config, prompt_width, length, own)

    def forward(
        self, prompt_ids: Tensor, prompt_mask: Tensor, ids: Tensor, mask: Tensor, states: Tensor | None = None
    ) -> Chosen:
        """Of completions `ids` (B, T) behind prompts (B, P); only real tokens, where `mask` is True, are looked up.

        `states` (B, P + T, H) are what entered the last block when the frozen trunk read them.
        """
        given, shared = (prompt_ids, prompt_mask, ids, mask), self._shared if states is not None else None
        with torch.no_grad(), shared.original.giving(states) if shared and states is not None else nullcontext():
            original = [read(model, *given, self.config).logits for model in self._original]
        passing = shared.policy.giving(states) if shared and states is not None else nullcontext()
        with passing, recomputed(self._recomputed):
            return self._chosen(*given, *original)

    def _chosen(
        self, prompt_ids: Tensor, prompt_mask: Tensor, ids: Tensor, mask: Tensor, original: Logits | None = None
    ) -> Chosen:
        split = split_with_linear_head(self.learner)
        if split is None:
            logits, values = completion_forward(self.learner, prompt_ids, prompt_mask, ids, self.config)
            return Chosen(selected_logprobs(logits, ids), values, self._kl(logits[mask].__getitem__, original, mask))
        last, values = completion_states(self.learner, split, prompt_ids, prompt_mask, ids, self.config)
        states = last[mask]
        found = head_logprobs(states, cast(nn.Linear, split.head), ids[mask], self.config)

        def logits_of(own: slice) -> Tensor:
            return suppress(head_logits(split.head, states[own]), self.config.suppress_tokens)

        return Chosen(in_place(found, mask), values, self._kl(logits_of, original, mask))

    def _kl(self, policy: Logits, original: Logits | None, mask: Tensor) -> Tensor | None:
        """At every prefix, (B, T), from the logits of both at each; None where nobody asked."""
        if original is None:
            return None
        at_once = tokens_per_tile(vocabulary_rows(self.learner), self.config, mask.device)
        return in_place(prefix_kl(int(mask.sum()), policy, original, at_once), mask)


def rows_at_once(learner: nn.Module, config: PPOConfig, prompt_width: int, length: int, own: int) -> int:
    """How many completions of `length` tokens the update reads together, where a step has `own` on this process.

    In bfloat16 scoring reads as many, so the number divides whatever either of them reads.
    """
    device = next(learner.parameters()).device
    if split_with_linear_head(learner) is None:
        rows = rows_per_chunk(length, vocabulary_rows(learner), config, device, times=KEPT_TIMES)
    else:
        layers = 1 if config.train_scope == "last_layer" else layer_count(learner)
        rows = rows_per_trunk(prompt_width + length, layers * width(learner), config, device, times=ACTIVATIONS_TIMES)
    rows = min(config.per_device_train_batch_size, rows)
    return shared_rows(rows, own, config.per_device_generation_batch_size) if is_half(config) else rows


def split_with_linear_head(learner: nn.Module) -> TrunkAndHead | None:
    """Trunk and head of the policy, where `head_logprobs` can take the head."""
    split = split_of(learner)
    return split if split is not None and type(split.head) is nn.Linear else None


def head_logprobs(states: Tensor, head: nn.Linear, ids: Tensor, config: PPOConfig) -> Tensor:
    """log π of `ids` (N,) by a linear head on states (N, H), a tile of logits at a time, in float32 at least: (N,)."""
    states, weight = full(states), full(head.weight)
    bias = None if head.bias is None else full(head.bias)
    held = KEPT_TIMES * logits_bytes(config, states.device) // (weight.shape[0] * states.element_size())
    suppressed = torch.tensor(config.suppress_tokens or [], dtype=torch.long, device=states.device)
    apply: Any = _HeadLogprobs.apply
    found: Tensor = apply(states, weight, bias, ids, config.temperature, suppressed, max(1, held))
    return found


class _HeadLogprobs(torch.autograd.Function):
    """Neither logits nor their softmax outlive a tile, unless all of them fit, when the backward pass takes them up.

    d log π(id) = (e_id - p)/τ times the head's weights: with frozen weights the gradient of the states is made with
    the forward pass, and there is no second one.
    """

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        ids: Tensor,
        temperature: float,
        suppressed: Tensor,
        held: int,
    ) -> Tensor:
        """`held` is the number of tokens whose probabilities may be held at once."""
        trained = ctx.needs_input_grad[1] or ctx.needs_input_grad[2]
        keep = trained and len(ids) <= held
        found, kept = torch.empty_like(states[:, 0]), []
        slopes = torch.empty_like(states) if ctx.needs_input_grad[0] and not trained else None
        for tile in _tiles(len(ids), held):
            logp = _logprobs(states[tile], weight, bias, temperature, suppressed)
            found[tile] = logp.gather(-1, ids[tile, None]).squeeze(-1)
            if keep:
                kept.append(logp.exp_())
            elif slopes is not None:
                slopes[tile] = torch.addmm(weight[ids[tile]], logp.exp_(), weight, alpha=-1)
        ctx.settings = (temperature, held, keep)
        ctx.save_for_backward(states, weight, bias, ids, suppressed, slopes, *kept)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """`gradient` (N,) of the log-probs."""
        states, weight, bias, ids, suppressed, slopes, *kept = ctx.saved_tensors
        temperature, held, keep = ctx.settings
        scaled = (gradient / temperature)[:, None]
        if slopes is not None:
            return slopes * scaled, None, None, None, None, None, None
        of_states = torch.empty_like(states) if ctx.needs_input_grad[0] else None
        of_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        of_bias = torch.zeros_like(bias) if ctx.needs_input_grad[2] else None
        for number, tile in enumerate(_tiles(len(ids), held)):
            again = None if keep else _logprobs(states[tile], weight, bias, temperature, suppressed).exp_()
            of_logits = (kept[number] if again is None else again) * -scaled[tile]
            of_logits.scatter_add_(-1, ids[tile, None], scaled[tile])
            if of_states is not None:
                torch.mm(of_logits, weight, out=of_states[tile])
            if of_weight is not None:
                of_weight.addmm_(of_logits.T, states[tile])
            if of_bias is not None:
                of_bias += of_logits.sum(0)
        return of_states, of_weight, of_bias, None, None, None, None


def _tiles(count: int, held: int) -> list[slice]:
    return [slice(tile.start, tile.stop) for tile in chunks(count, held)]


def _logprobs(states: Tensor, weight: Tensor, bias: Tensor | None, temperature: float, suppressed: Tensor) -> Tensor:
    """(n, V) of states (n, H)."""
    logits = nn.functional.linear(states, weight, bias)
    if len(suppressed):
        logits.index_fill_(-1, suppressed, IMPOSSIBLE)
    if temperature != 1:
        logits.div_(temperature)
    return logits.log_softmax(-1)
