"""The policy's logits at sampled tokens, read once and kept: what samplers are fitted to and tested on.

Shapes: B completions, S = P + T places of prompt and completion, V vocabulary, N real tokens. Log-probs in nats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from rlhf.language_model.sampler import chunks
from rlhf.ppo.goodness import Traits
from rlhf.ppo.objective import gathered
from rlhf.ppo.sampled import HELD_AT_ONCE, Sampled, Score, logits_of, parts, vocabulary_of
from rlhf.ppo.samplers import Context, Sampler, edge

# What is read and kept at most: logits (256 MB in float32), and tokens.
READ_AT_MOST, TOKENS_AT_MOST = 2**26, 2**13
POLICY = Sampler()


@dataclass(frozen=True, slots=True)
class Evidence:
    """The policy's logits at sampled tokens; log-probs come back on the CPU as float64."""

    logits: Tensor  # (N, V)
    ids: Tensor  # (N,)
    rows: Tensor  # (N,) the completion of each
    positions: Tensor  # (N,)
    sequences: Tensor  # (B, S)
    first: Tensor  # (B,) place of the first real token of each prompt
    prompt_width: int
    length: int  # tokens of the longest completion
    end_token_ids: tuple[int, ...]
    seen: Tensor | None = None  # (N, V) bool, kept where the vocabulary is narrowed

    def __len__(self) -> int:
        return len(self.ids)

    def head(self, tokens: int) -> Evidence:
        """The first tokens alone."""
        own = slice(0, tokens)
        seen = self.seen[own] if self.seen is not None else None
        return replace(
            self,
            logits=self.logits[own],
            ids=self.ids[own],
            rows=self.rows[own],
            positions=self.positions[own],
            seen=seen,
        )

    def narrowed(self, width: int) -> Evidence:
        """The `width` likeliest tokens of each prefix as the whole vocabulary, and the sampled tokens among them.

        Given that a token is one of them, temperature, repetition penalty and top-k choose among them just as among
        all: a fit to them is a fit, from a little less evidence, at a small part of the cost.
        """
        if self.logits.shape[-1] <= width:
            return self
        values, tokens, seen = [], [], []
        for logits, _, context in self.pieces():
            top = logits.topk(width)
            values.append(top.values)
            tokens.append(top.indices)
            seen.append(context.seen(logits.shape[-1]).gather(-1, top.indices))
        among = torch.cat(tokens) == self.ids[:, None]
        kept = among.any(-1)
        return replace(
            self,
            logits=torch.cat(values)[kept],
            ids=among[kept].int().argmax(-1),
            rows=self.rows[kept],
            positions=self.positions[kept],
            seen=torch.cat(seen)[kept],
        )

    def pieces(self) -> Iterator[tuple[Tensor, Tensor, Context]]:
        """Logits (n, V), ids (n,) and context of some tokens at a time."""
        width = max(self.logits.shape[-1], 8 * self.sequences.shape[1])
        for chunk in chunks(len(self), max(1, HELD_AT_ONCE // width)):
            yield self.piece(slice(chunk.start, chunk.stop))

    def piece(self, own: slice) -> tuple[Tensor, Tensor, Context]:
        """The same of these tokens."""
        rows, positions = self.rows[own], self.positions[own]
        place = self.prompt_width + positions
        seen = self.seen[own] if self.seen is not None else None
        context = Context(
            self.sequences[rows], self.first[rows], place, positions, self.length, self.end_token_ids, seen
        )
        return self.logits[own], self.ids[own], context

    def logprobs(self, sampler: Sampler) -> Tensor:
        """log q of the sampled tokens under a sampler, (N,)."""
        pieces = [of_chosen(sampler.logprobs(logits, context), ids) for logits, ids, context in self.pieces()]
        return torch.cat(pieces).double().cpu()

    def at_edge(self, sampler: Sampler, setting: str) -> Sampler:
        """`sampler` with one truncation more, the tightest that keeps every sampled token."""
        edges = torch.cat([edge(setting, sampler.logprobs(x, context), ids) for x, ids, context in self.pieces()])
        if setting == "top_k":
            return sampler._replace(top_k=int(edges.max()))
        return sampler.at(setting, float(edges.min() if setting == "min_p" else edges.max()))

    def traits(self, sampler: Sampler) -> Traits:
        """The traits of the sampled tokens under a sampler."""
        traits = Traits()
        for logits, ids, context in self.pieces():
            traits.add(sampler.logprobs(logits, context), ids, context)
        return traits


def of_chosen(logq: Tensor, ids: Tensor) -> Tensor:
    """What (n, V) holds at ids (n,)."""
    return gathered(logq[None], ids[None])[0]


def evidence(policy: Any, sampled: Sampled, score: Score) -> Evidence:
    """The policy's logits at every token of some completions, with one forward pass over them."""
    kept = []
    for part in parts(sampled, vocabulary_of(policy, sampled, score)):
        logits = logits_of(policy, part, score)
        kept.append(logits[part.completion_mask.to(logits.device)])
    return _evidence(torch.cat(kept), sampled, _longest(sampled))


def _longest(sampled: Sampled) -> int:
    return int(sampled.completion_mask.sum(-1).max())


def _evidence(logits: Tensor, sampled: Sampled, length: int, tokens: slice = slice(None)) -> Evidence:
    """`logits` (n, V) of some real tokens, or of all, in the order of `completion_ids[completion_mask]`."""
    rows, positions = (places[tokens] for places in sampled.completion_mask.nonzero(as_tuple=True))
    device = logits.device
    return Evidence(
        logits=logits,
        ids=sampled.completion_ids[rows, positions].to(device),
        rows=rows.to(device),
        positions=positions.to(device),
        sequences=torch.cat([sampled.prompt_ids, sampled.completion_ids], 1).to(device),
        first=(~sampled.prompt_mask).sum(-1).to(device),
        prompt_width=sampled.prompt_ids.shape[1],
        length=length,
        end_token_ids=sampled.end_token_ids,
    )


@torch.no_grad()
def traits_of(policy: Any, sampled: Sampled, score: Score) -> Traits:
    """The traits of completions under the policy itself, a piece at a time: one forward pass, no logits kept."""
    traits = Traits()
    for part in parts(sampled, vocabulary_of(policy, sampled, score)):
        logits = logits_of(policy, part, score)
        read = _evidence(logits[part.completion_mask.to(logits.device)], part, _longest(sampled))
        for x, ids, context in read.pieces():
            traits.add(POLICY.logprobs(x, context), ids, context)
    return traits


def seen_by_doctor(count: int) -> int:
    """How many of `count` completions have their traits counted: an eighth, 32 at least."""
    return min(count, max(32, count // 8))


class TraitsOfMeasured:
    """The traits of a rollout's first completions, from the log-probs that measuring makes anyway."""

    def __init__(self, sampled: Sampled, vocabulary: int) -> None:
        """`sampled` are those completions, of which this process measures some."""
        self.sampled, self.length, self.traits = sampled, _longest(sampled), Traits()
        nothing = _evidence(torch.zeros(0, vocabulary), sampled, self.length, slice(0, 0))
        self.traits.add(*nothing.piece(slice(0, 0)))  # every process knows the traits by name

    def witness(self, rows: slice) -> Callable[[Tensor, slice], None] | None:
        """Takes log π (n, V) of some real tokens of completions `rows`, as told by their number in `ids[mask]`; None
        where the completions are beyond those counted."""
        if rows.start >= len(self.sampled):
            return None
        part = self.sampled.rows(slice(rows.start, rows.stop))
        known = int(part.completion_mask.sum())

        def add(logp: Tensor, tokens: slice) -> None:
            within = slice(tokens.start, min(tokens.stop, known))
            for kept, ids, context in _evidence(
                logp[: max(0, known - tokens.start)], part, self.length, within
            ).pieces():
                self.traits.add(kept, ids, context)

        return add

    def joined(self, rank: int, world_size: int, sum_over_processes: Callable[[Tensor], Tensor]) -> Traits:
        """Those of all processes."""
        return self.traits.joined(rank, world_size, self.sampled.completion_mask.numel(), sum_over_processes)


def readable(sampled: Sampled, vocabulary: int) -> Sampled:
    """What a diagnosis reads: the first completions, 8 at least, and of those their beginnings alone if too long."""
    tokens = min(READ_AT_MOST // vocabulary, TOKENS_AT_MOST)
    rows = int((sampled.completion_mask.sum(-1).cumsum(0) <= tokens).sum())
    return sampled.rows(slice(0, rows)) if rows > 8 else sampled.rows(slice(0, 8)).head(max(1, tokens // 8))
