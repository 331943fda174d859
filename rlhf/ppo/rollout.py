"""Sampling with the policy and measuring what was sampled: rewards, old log-probs, exact KL to the original.

Shapes: B completions, P prompt tokens (left-padded), T completion tokens (right-padded), V vocabulary.

Completions are shared out among the processes (who_samples.py). Each process fills its rows of the whole rollout and a
sum over processes joins them, so afterwards every process holds the same rollout: ids, masks and one number a token or
completion, never logits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rlhf.foundation.causal_lm import vocabulary_rows
from rlhf.foundation.frozen_trunk import SharedTrunk
from rlhf.language_model.endings import ending_of, pad_token
from rlhf.language_model.randomness import Stream
from rlhf.language_model.sampler import chunks, pad_prompts
from rlhf.ppo.config import PPOConfig
from rlhf.ppo.critic import ActorCritic
from rlhf.ppo.evidence import TraitsOfMeasured, seen_by_doctor
from rlhf.ppo.goodness import Traits
from rlhf.ppo.lockstep import in_step
from rlhf.ppo.measuring import Measurer
from rlhf.ppo.passing import PassingStates
from rlhf.ppo.precision import is_half
from rlhf.ppo.reward_functions import Rewards
from rlhf.ppo.sampled import Sampled
from rlhf.ppo.stretches import share_of
from rlhf.ppo.together import Alone, Together
from rlhf.ppo.who_samples import Engine, EngineSampler, Key, OwnSampler, Sampling, shares

Score = Callable[[list[Any], list[str], list[list[int]], Mapping[str, list[Any]]], Tensor]


@dataclass(slots=True)
class Rollout:
    """Completions of one policy and everything measured on them; tensors on the CPU, sums in nats."""

    prompts: list[Any]
    completions: list[str]
    prompt_ids: Tensor  # (B, P)
    prompt_mask: Tensor  # (B, P) bool
    completion_ids: Tensor  # (B, T)
    completion_mask: Tensor  # (B, T) bool
    rewards: Tensor  # (B,) float64, raw; NaN where no reward function applies
    old_logprobs: Tensor  # (B, T)
    sampler_logprobs: Tensor  # (B, T) temperature 1, as the sampler saw them
    kl: Tensor  # (B,) exact, summed over prefixes
    k1: Tensor  # (B,)
    k3: Tensor  # (B,)
    entropy: Tensor  # (B,) summed over tokens
    ended: Tensor  # (B,) bool, by an end token or stop string; the others were cut
    end_token_ids: tuple[int, ...]
    vocabulary: int  # tokens that the policy chose from
    ref_logprobs: Tensor | None = None  # (B, T), with a critic
    reward_values: Tensor | None = None  # (F, B) of each reward function, NaN where it does not apply
    members: Tensor | None = None  # (E, 2, B) of each ensemble what its worst member gives, and the members' spread
    prefix_kl: Tensor | None = None  # (B, T) exact, at the prefix before each token, with --kl_gradient exact
    values: Tensor | None = None  # (B, T) the critic's, of the prefix before each token, 0 where masked
    states: Tensor | None = None  # that passed by in sampling (passing.py); (B, P + T, H) for the update
    by_engine: bool = False  # another program sampled; `sampler_logprobs` are then its own, tempered as it sampled
    traits: Traits | None = None  # of the first completions' tokens, for the doctor
    seconds: dict[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def sampled(self) -> Sampled:
        """The completions as the doctor reads them."""
        return Sampled(
            self.prompt_ids,
            self.prompt_mask,
            self.completion_ids,
            self.completion_mask,
            self.end_token_ids,
            self.sampler_logprobs,
        )

    @property
    def scored(self) -> Tensor:
        """Which completions have a reward, (B,) bool."""
        return ~self.rewards.isnan()

    def length_of(self, rows: Sequence[int] | Tensor, mask: Tensor | None = None, *, even: bool = False) -> int:
        """Tokens of the longest of some completions, at least 1, by `mask` (B, T) if given; `even`: of all of them.

        Rows of one width are what bfloat16 needs to round alike, and processes to read alike.
        """
        picked = (
            self.completion_mask if even else (self.completion_mask if mask is None else mask)[torch.as_tensor(rows)]
        )
        return max(1, int(picked.any(0).sum()))


class RolloutWorker:
    """Samples with the policy and scores what it sampled, on this process's share of the chunks."""

    def __init__(
        self,
        model: Any,
        ref_model: Any,
        tokenizer: Any,
        config: PPOConfig,
        rewards: Rewards,
        *,
        processes: Together | None = None,
        critic: ActorCritic | None = None,
        shared: SharedTrunk | None = None,
    ) -> None:
        """With a `critic`, whose policy is `model`, the values and the reference's log-probs are measured too.

        `shared` is what both models have in common: it reads each completion once.
        """
        self.model, self.ref_model, self.tokenizer, self.config = model, ref_model, tokenizer, config
        self.measurer = Measurer(model, ref_model, config, critic, shared)
        self.rewards, self.processes = rewards, processes or Alone()
        self.passing = PassingStates(model, shared, config, cut=self.processes.sharded)
        self.sum_over_processes = self.processes.sum
        self.score: Score = self.processes.naming(rewards.values)
        self.members = self.processes.naming(rewards.members)
        self.device = next(model.parameters()).device
        self.ending = ending_of(model, tokenizer, config.stop_strings)
        self.own = OwnSampler(model, self.ending, pad_token(tokenizer), config, self.processes, self.passing)
        self.engine: Sampling | None = None

    def take(self, engine: Engine) -> None:
        """From here on `engine` samples, but for evaluation."""
        own = self.own
        self.engine = EngineSampler(engine, self.model, self.ending, own.pad, self.config, self.processes)

    def __call__(
        self,
        rows: Sequence[Mapping[str, Any]],
        encoded: Sequence[list[int]],
        *,
        stream: Stream,
        iteration: int,
        first_index: int = 0,
        measure: bool = True,
        moved: bool = False,
    ) -> Rollout:
        """One completion for each row (its `prompt` encoded in `encoded`); completion i is keyed first_index + i.

        With `measure` false only sampling and rewards are done (for the normalisation constants). `moved` is whether
        the policy is another than the original by now.
        """
        started = time.perf_counter()
        share = share_of(
            list(chunks(len(rows), self.config.per_device_generation_batch_size)),
            self.processes.rank,
            self.processes.world_size,
        )
        self.processes.begin("sampling", share=share)
        rollout = self._sample(rows, encoded, Key(stream, iteration, first_index), keep=measure, moved=moved)
        sampled = time.perf_counter()
        self.processes.begin("the reward functions", share=share)
        self._score(rollout, rows)
        scored = time.perf_counter()
        if measure:
            self.processes.begin("measuring log-probs", share=share)
            self._measure(rollout, seen_by_doctor(len(rows)) if stream is Stream.ROLLOUT else 0)
        rollout.seconds = {
            "generate": sampled - started,
            "score": scored - sampled,
            "reference": time.perf_counter() - scored,
        }
        return rollout

    def _shares(self, count: int) -> list[list[range]]:
        return shares(count, self.config.per_device_generation_batch_size, self.processes.world_size)

    def _own_chunks(self, count: int) -> list[range]:
        return self._shares(count)[self.processes.rank]

    def _sample(
        self, rows: Sequence[Mapping[str, Any]], encoded: Sequence[list[int]], key: Key, *, keep: bool, moved: bool
    ) -> Rollout:
        sampler = self.engine if self.engine is not None and key.stream is not Stream.EVALUATION else self.own
        drawn = sampler(encoded, key, keep=keep, moved=moved)
        prompt_ids, prompt_mask = pad_prompts(encoded, self.own.pad)
        empty = torch.zeros(len(rows), dtype=torch.float64)
        kept = [row[real].tolist() for row, real in zip(drawn.ids, drawn.mask, strict=True)]
        return Rollout(
            prompts=[row["prompt"] for row in rows],
            completions=self.ending.texts(encoded, kept),
            prompt_ids=prompt_ids,
            prompt_mask=prompt_mask,
            completion_ids=drawn.ids,
            completion_mask=drawn.mask,
            rewards=empty,
            old_logprobs=torch.zeros_like(drawn.logprobs),
            sampler_logprobs=drawn.logprobs,
            kl=empty,
            k1=empty,
            k3=empty,
            entropy=empty,
            ended=self.ending.ended(drawn.ids, drawn.mask, encoded),
            end_token_ids=self.ending.token_ids,
            vocabulary=vocabulary_rows(self.model),
            states=drawn.states,
            by_engine=sampler is self.engine,
        )

    def _score(self, rollout: Rollout, rows: Sequence[Mapping[str, Any]]) -> None:
        values = torch.zeros(len(self.rewards.functions), len(rollout), dtype=torch.float64)
        members = torch.zeros(len(self.rewards.ensembles), 2, len(rollout), dtype=torch.float64)
        own = [i for chunk in self._own_chunks(len(rollout)) for i in chunk]
        if own:
            token_ids = [rollout.completion_ids[i][rollout.completion_mask[i]].tolist() for i in own]
            columns = {key: [rows[i][key] for i in own] for key in rows[0] if key != "prompt"}
            texts = [rollout.completions[i] for i in own]
            prompts = [rollout.prompts[i] for i in own]
            values[:, own] = self.score(prompts, texts, token_ids, columns)
            members[..., own] = self.members(prompts, texts)
        rollout.reward_values = self.sum_over_processes(values)
        rollout.members = self.sum_over_processes(members) if len(members) else members
        lengths = rollout.completion_mask.sum(1)
        rollout.rewards = self.rewards.total(rollout.reward_values, rollout.ended, lengths)

    def _pieces(self, rollout: Rollout, chunks: Sequence[range]) -> list[tuple[slice, int]]:
        """Rows that are read at once, and how many of their tokens."""
        found, width = [], rollout.prompt_ids.shape[1]
        own_of_a_step = self.config.minibatch_size // self.processes.world_size
        for chunk in chunks:
            length = rollout.length_of(chunk, even=is_half(self.config))
            for piece in self.measurer.pieces(len(chunk), width + length, length, own_of_a_step):
                found.append((slice(chunk.start + piece.start, chunk.start + piece.stop), length))
        return found

    def _measure(self, rollout: Rollout, looked_at: int = 0) -> None:
        """Old log-probs, exact KL, k1, k3, entropy and values; the traits of the first `looked_at` completions."""
        columns = {name: torch.zeros(len(rollout), dtype=torch.float64) for name in ("kl", "k1", "k3", "entropy")}
        tokens = {name: torch.zeros_like(rollout.sampler_logprobs) for name in self.measurer.names}
        # Places of a row's states that stand before its completion.
        before = rollout.prompt_ids.shape[1] if self.passing.shared else 0
        watch = TraitsOfMeasured(rollout.sampled.rows(slice(0, looked_at)), rollout.vocabulary) if looked_at else None
        shares = [self._pieces(rollout, chunks) for chunks in self._shares(len(rollout))]
        for (own, length), is_own in in_step(shares, self.processes.rank, together=self.processes.sharded):
            measured = self.measurer(
                rollout.prompt_ids[own],
                rollout.prompt_mask[own],
                rollout.completion_ids[own, :length],
                rollout.completion_mask[own, :length],
                states=rollout.states[own, : before + length] if rollout.states is not None else None,
                witness=watch.witness(own) if watch and is_own else None,
            )
            if not is_own:
                continue
            for name, values in measured.tokens.items():
                tokens[name][own, :length] = values
            for name, values in measured.sums.items():
                columns[name][own] = values
        if self.processes.world_size > 1 or not self.passing.shared:
            rollout.states = None  # no update reads them: they are another process's, or the head's
        if watch is not None:
            rollout.traits = watch.joined(self.processes.rank, self.processes.world_size, self.sum_over_processes)
        for name, values in tokens.items():
            setattr(rollout, name, self.sum_over_processes(values))
        joined = self.sum_over_processes(torch.stack(list(columns.values())))
        rollout.kl, rollout.k1, rollout.k3, rollout.entropy = joined.unbind(0)
