"""Who samples a rollout: this project's own sampler, or another program (an engine, such as vLLM) in its place.

Shapes: B completions, P prompt tokens (left-padded), T completion tokens (right-padded).

Completions are shared out in chunks whose borders are multiples of `per_device_generation_batch_size`, whatever the
number of processes; chunk c belongs to process c mod world size. Each process fills its rows and a sum over processes
joins them.

How a rollout by an engine differs from one by the own sampler:
1. Its log-probs are another program's, so the update weights tokens by how far they are off (engine_mismatch.py).
2. Its random numbers are the engine's, seeded by (seed, stream, iteration, first completion) where the engine takes a
   seed: the same command samples the same on the same machine, but another number of processes does not.
3. Evaluation samples, by which rungs are described and the KL budget ends a run, are the own sampler's all the same:
   their KL is that of the policy and of no other program.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from rlhf.foundation.causal_lm import vocabulary_rows
from rlhf.foundation.errors import InputError
from rlhf.language_model.endings import Ending
from rlhf.language_model.randomness import Stream, generator, uniforms
from rlhf.language_model.sampler import LogitsNotFinite, chunks, generate
from rlhf.ppo.config import PPOConfig
from rlhf.ppo.lockstep import in_step
from rlhf.ppo.passing import PassingStates
from rlhf.ppo.precision import forward_precision
from rlhf.ppo.together import Together
from rlhf.ppo.zero import gathered


class Key(NamedTuple):
    """What random numbers are keyed by: completion i of a rollout is number first + i of its stream and iteration."""

    stream: Stream
    iteration: int
    first: int


class Drawn(NamedTuple):
    """Completions of all processes, on the CPU."""

    ids: Tensor  # (B, T), the pad token where masked
    mask: Tensor  # (B, T) bool, first end token kept
    logprobs: Tensor  # (B, T) float64 nats, 0 where masked
    states: Tensor | None = None  # that passed by (passing.py)


class Sampling(Protocol):
    """Samples one completion for each of B prompts, given as ids."""

    def __call__(self, encoded: Sequence[list[int]], key: Key, *, keep: bool, moved: bool) -> Drawn:
        """`keep`: states may be kept for measuring; `moved`: the policy is another than the original by now."""
        ...


class Draw(NamedTuple):
    """One completion as an engine gives it."""

    ids: Sequence[int]  # end token included
    logprobs: Sequence[float | None]  # nats, under the distribution it was drawn from; None for NaN


class Engine(Protocol):
    """Another program that samples from the policy's weights with settings that were fixed when it was started."""

    even: bool  # every process must ask for as many completions as the others
    own_seed: int  # which of several engines this process has: processes that share one have one number

    def renew(self) -> None:
        """Give it the policy's present weights; every process comes to this. Raises InputError."""
        ...

    def draw(self, prompts: Sequence[list[int]], seed: int) -> list[Draw]:
        """A completion for each prompt. Raises InputError when the engine fails."""
        ...


def shares(count: int, size: int, world_size: int) -> list[list[range]]:
    """The chunks of each process, of `count` completions in chunks of `size`."""
    every = list(chunks(count, size))
    return [every[rank::world_size] for rank in range(world_size)]


class OwnSampler:
    """The policy itself, by `rlhf.language_model.sampler.generate`."""

    def __init__(
        self, model: Any, ending: Ending, pad: int, config: PPOConfig, processes: Together, passing: PassingStates
    ) -> None:
        """`pad` is the id that fills masked places."""
        self.model, self.ending, self.pad, self.config = model, ending, pad, config
        self.processes, self.passing = processes, passing
        self.device = next(model.parameters()).device

    def __call__(self, encoded: Sequence[list[int]], key: Key, *, keep: bool, moved: bool) -> Drawn:
        """As `Sampling`; random numbers do not depend on chunks or processes."""
        config, count, length = self.config, len(encoded), self.config.max_completion_length
        ids = torch.zeros(count, length, dtype=torch.long)
        mask = torch.zeros(count, length, dtype=torch.long)
        logprobs = torch.zeros(count, length, dtype=torch.float64)
        width, together = max(map(len, encoded)), self.processes.sharded
        states = self.passing.room(count, width, length, moved=moved) if keep else None
        every = shares(count, config.per_device_generation_batch_size, self.processes.world_size)
        for chunk, is_own in in_step(every, self.processes.rank, together=together):
            numbers = uniforms(config.seed, key.stream, (key.first + i for i in chunk), length, iteration=key.iteration)
            gathering = gathered(list(self.model.parameters()))
            with self.passing.into(states, chunk, width), gathering, forward_precision(config, self.model, self.device):
                done = generate(
                    self.model,
                    [encoded[i] for i in chunk],
                    numbers,
                    ending=self.ending,
                    pad_token_id=self.pad,
                    temperature=config.temperature,
                    suppress_tokens=config.suppress_tokens,
                    goes_on=self.processes.any if together else bool,
                )
            if not is_own:
                continue
            own = slice(chunk.start, chunk.stop)
            ids[own], mask[own] = done.completion_ids, done.completion_mask.long()
            logprobs[own] = done.logprobs.double()
        return joined(ids, mask, logprobs, self.pad, self.processes)._replace(states=states)


def joined(ids: Tensor, mask: Tensor, logprobs: Tensor, pad: int, processes: Together) -> Drawn:
    """What all processes drew, each of whose rows is 0 on all but one of them."""
    ids, mask = processes.sum(ids), processes.sum(mask).bool()
    return Drawn(torch.where(mask, ids, pad), mask, processes.sum(logprobs))


class EngineSampler:
    """An engine in the own sampler's place: the policy's weights first, then every completion of a share at once."""

    def __init__(
        self, engine: Engine, model: Any, ending: Ending, pad: int, config: PPOConfig, processes: Together
    ) -> None:
        """`ending` says where a completion ends, whatever the engine takes for an end."""
        self.engine, self.ending, self.pad, self.config, self.processes = engine, ending, pad, config, processes
        self.vocabulary = vocabulary_rows(model)

    def __call__(self, encoded: Sequence[list[int]], key: Key, *, keep: bool, moved: bool) -> Drawn:
        """As `Sampling`. Raises InputError when the engine fails or samples what the model has not, LogitsNotFinite."""
        self.engine.renew()
        every = shares(len(encoded), self.config.per_device_generation_batch_size, self.processes.world_size)
        rows = [[i for chunk in share for i in chunk] for share in every]
        own = rows[self.processes.rank]
        asked = evened(rows, self.processes.rank) if self.engine.even else own
        seed = int(generator(self.config.seed, key.stream, key.iteration, key.first).integers(2**31))
        prompts, seed = [encoded[i] for i in asked], seed + self.engine.own_seed
        draws = self.processes.all_do(lambda: self.engine.draw(prompts, seed) if prompts else [], "sampling")
        ids, mask, logprobs = self._rows(draws[: len(own)], [encoded[i] for i in own])
        shape = (len(encoded), self.config.max_completion_length)
        whole = [torch.zeros(shape, dtype=x.dtype).index_copy(0, torch.tensor(own).long(), x)
                 for x in (ids, mask.long(), logprobs)]  # fmt: skip
        return joined(whole[0], whole[1], whole[2], self.pad, self.processes)

    def _rows(self, draws: Sequence[Draw], prompts: Sequence[list[int]]) -> tuple[Tensor, Tensor, Tensor]:
        """Ids, mask and log-probs (b, T) of what an engine drew, cut where a completion ends."""
        length = self.config.max_completion_length
        ids = torch.full((len(draws), length), self.pad)
        given = torch.zeros(len(draws), length, dtype=torch.bool)
        logprobs = torch.zeros(len(draws), length, dtype=torch.float64)
        for row, (tokens, nats) in enumerate(draws):
            count = min(len(tokens), length)
            self._require_tokens(tokens)
            ids[row, :count], given[row, :count] = torch.tensor(tokens[:count]), True
            numbers = [float("nan") if x is None else x for x in nats[:count]]
            logprobs[row, :count] = torch.tensor(numbers, dtype=torch.float64)
        mask = before_the_end(ids, given, self.ending, prompts)
        self._require_ends(ids, mask, prompts)
        if not bool(logprobs[mask].isfinite().all()):
            raise LogitsNotFinite
        return torch.where(mask, ids, self.pad), mask, torch.where(mask, logprobs, 0.0)

    def _require_ends(self, ids: Tensor, mask: Tensor, prompts: Sequence[list[int]]) -> None:
        """A completion is as long as may be, or has ended. Of stop strings the engine's own reading counts too."""
        lengths = mask.sum(-1)
        for row in (lengths < mask.shape[1]).nonzero().flatten().tolist():
            ended = self.ending.after(ids[row : row + 1, : lengths[row]], prompts[row : row + 1])
            if not bool(ended) and not self.ending.strings:
                raise InputError(
                    "the engine that samples",
                    got=f"a completion of {int(lengths[row])} tokens without an end",
                    expected=f"an end token, or {mask.shape[1]} tokens",
                    fix="give it room for the longest prompt and a completion (--max-model-len of a server)",
                )

    def _require_tokens(self, tokens: Sequence[int]) -> None:
        if not tokens or not 0 <= min(tokens) <= max(tokens) < self.vocabulary:
            raise InputError(
                "the engine that samples",
                got=f"token {max(tokens)}" if tokens else "a completion without a token",
                expected=f"at least one token a completion, ids below {self.vocabulary} as the policy has them",
                fix="start it with the policy's own model and tokenizer",
            )


def evened(rows: Sequence[Sequence[int]], rank: int) -> list[int]:
    """A process's rows, and more of them (any, to be thrown away) until it has as many as the one with most."""
    most, filler = max(map(len, rows)), next(row for share in rows for row in share)
    return [*rows[rank], *[filler] * (most - len(rows[rank]))]


def before_the_end(ids: Tensor, given: Tensor, ending: Ending, prompts: Sequence[Sequence[int]]) -> Tensor:
    """Which of the tokens (B, T) that were given count: those up to and with the first end. (B, T) bool."""
    kept, alive = torch.zeros_like(given), torch.ones(len(ids), dtype=torch.bool)
    for t in range(ids.shape[1]):
        kept[:, t] = alive & given[:, t]
        alive = kept[:, t] & ~ending.after(ids[:, : t + 1], prompts)
        if not bool(alive.any()):
            break
    return kept
