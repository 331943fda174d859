"""What a rollout's completions are under policy and original: log-probs, exact KL, k1, k3, entropy, a critic's values.

Shapes: B completions, P prompt tokens (left-padded), T completion tokens (right-padded), N real tokens, V vocabulary.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlhf.foundation.causal_lm import vocabulary_rows, width
from rlhf.foundation.frozen_trunk import SharedTrunk
from rlhf.language_model.sampler import chunks
from rlhf.ppo.chosen import rows_at_once
from rlhf.ppo.config import PPOConfig
from rlhf.ppo.critic import ActorCritic
from rlhf.ppo.forward import Reading, read, rows_per_chunk, rows_per_trunk, split_of, tokens_per_tile
from rlhf.ppo.objective import exact_kl, gathered, in_place, kl_k1, kl_k3
from rlhf.ppo.precision import is_half

# Told of every tile: log π (n, V) at temperature 1, and which of the piece's real tokens it holds.
Witness = Callable[[Tensor, slice], None]


class Measured(NamedTuple):
    """Of some completions, on the CPU in float64; 0 where masked."""

    tokens: dict[str, Tensor]  # (B, T): old_logprobs; with an exact gradient prefix_kl, with a critic the rest
    sums: dict[str, Tensor]  # (B,) nats: kl, k1, k3, entropy


class Measurer:
    """Reads completions with the policy and with the original, in pieces that fit the stated memory."""

    def __init__(
        self,
        model: Any,
        ref_model: Any,
        config: PPOConfig,
        critic: ActorCritic | None = None,
        shared: SharedTrunk | None = None,
    ) -> None:
        """With a `critic`, whose policy is `model`, its values and the original's log-probs are measured too."""
        self.shared = shared
        self.scorer: Any = model if critic is None else critic
        self.ref_model, self.config, self.with_critic = ref_model, config, critic is not None
        self.in_full = dataclasses.replace(config, bf16=False)  # KL of the weights themselves, which rungs are
        self.device = next(model.parameters()).device
        self.vocabulary, self.width = vocabulary_rows(model), width(model)

    @property
    def names(self) -> list[str]:
        """What is kept of each token."""
        exact = ["prefix_kl"] if self.config.kl_gradient == "exact" else []
        return ["old_logprobs", *exact, *(["ref_logprobs", "values"] if self.with_critic else [])]

    def pieces(self, count: int, places: int, length: int, own: int) -> Iterator[range]:
        """`count` completions of `length` tokens, of rows of `places` tokens, in the pieces that are read at once.

        In bfloat16 they are those of the update, a step of which has `own` completions.
        """
        if is_half(self.config):
            return chunks(count, rows_at_once(self.scorer, self.config, places - length, length, own))
        whole = any(split_of(model) is None for model in (self.scorer, self.ref_model))
        rows = (
            rows_per_chunk(length, self.vocabulary, self.config, self.device)
            if whole
            else rows_per_trunk(places, self.width, self.config, self.device)
        )
        return chunks(count, rows)

    @torch.no_grad()
    def __call__(
        self,
        prompt_ids: Tensor,
        prompt_mask: Tensor,
        ids: Tensor,
        mask: Tensor,
        *,
        states: Tensor | None = None,
        witness: Witness | None = None,
    ) -> Measured:
        """Of one piece: (B, P) twice, (B, T) twice; `states` are those that passed by in sampling (passing.py)."""
        prompt_ids, prompt_mask, ids, mask = (x.to(self.device) for x in (prompt_ids, prompt_mask, ids, mask))
        given, states = (prompt_ids, prompt_mask, ids, mask), states.to(self.device) if states is not None else None
        policy, kept = self._read_policy(*given, self.in_full, states=states)
        with self.shared.original.giving(kept[0]) if self.shared else nullcontext():
            original = read(self.ref_model, *given, self.in_full)
        found = self._by_token(policy, original, ids[mask], witness)
        logprobs, ref_logprobs, kl, entropy = (in_place(values, mask) for values in found.unbind(0))
        old_logprobs = logprobs
        if self.config.bf16:  # the policy as the update reads it, which must find a ratio of 1
            policy = read(self.scorer, *given, self.config)
            old_logprobs = in_place(self._old_logprobs(policy, ids[mask]), mask)
        sums = {
            "kl": kl.sum(-1),
            "k1": kl_k1(logprobs, ref_logprobs, mask),
            "k3": kl_k3(logprobs, ref_logprobs, mask),
            "entropy": entropy.sum(-1),
        }
        tokens = {"old_logprobs": old_logprobs} | ({"prefix_kl": kl} if "prefix_kl" in self.names else {})
        if policy.values is not None:
            tokens |= {"ref_logprobs": ref_logprobs, "values": torch.where(mask, policy.values, 0.0).double()}
        on_cpu = [{name: x.cpu() for name, x in of.items()} for of in (tokens, sums)]
        return Measured(*on_cpu)

    def _read_policy(self, *given: Any, states: Tensor | None = None) -> tuple[Reading, list[Tensor]]:
        """With what entered its last block, where the rest is shared; `states` have passed by already."""
        if self.shared is None:
            return read(self.scorer, *given, states=states), []
        kept = [] if states is None else [states]
        with self.shared.policy.keeping(kept) if states is None else self.shared.policy.giving(states):
            return read(self.scorer, *given), kept

    def _by_token(self, policy: Reading, original: Reading, ids: Tensor, witness: Witness | None = None) -> Tensor:
        """log π, log ref, exact KL and entropy of N tokens `ids`, (4, N) float64."""
        heat, found = self.config.temperature, torch.empty(4, len(ids), dtype=torch.float64, device=ids.device)
        for tile in chunks(len(ids), tokens_per_tile(self.vocabulary, self.config, self.device)):
            own = slice(tile.start, tile.stop)
            logits = [reading.logits(own) for reading in (policy, original)]
            logp, logq = (x.log_softmax(-1) for x in logits)
            sampled = (logp, logq) if heat == 1 else ((x / heat).log_softmax(-1) for x in logits)
            for row, distribution in enumerate(sampled):
                found[row, own] = gathered(distribution, ids[own]).double()
            found[2:, own] = torch.stack(exact_kl(logp, logq)).double()  # always at temperature 1
            if witness is not None:
                witness(logp, own)
        return found
