"""Completions as a sampler made them, and the few ways in which a diagnosis reads them.

Shapes: B completions, P prompt tokens (left-padded), T completion tokens (right-padded), V vocabulary, N real tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from rlhf.language_model.sampler import chunks
from rlhf.ppo.objective import gathered

# Nats by which two passes over the same row may differ through rounding alone (float32; other batch shapes).
ROUNDING = 1e-3
# Numbers (tokens times vocabulary) that are held at once while completions are read; up to 16 times as many where that
# lets the model read 8 completions at a time, since its weights pass through the processor once a batch.
HELD_AT_ONCE = 2**20

Score = Callable[[Any, Tensor, Tensor, Tensor], Tensor]
"""`score(model, prompt_ids, prompt_mask, completion_ids)` returns logits (b, T, V) at temperature 1."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """Completions as they were sampled and what was recorded with them; log-probs in nats, whatever where masked."""

    prompt_ids: Tensor  # (B, P)
    prompt_mask: Tensor  # (B, P) bool
    completion_ids: Tensor  # (B, T)
    completion_mask: Tensor  # (B, T) bool
    end_token_ids: tuple[int, ...]
    logprobs: Tensor | None = None  # (B, T) of the policy, as recorded
    ref_logprobs: Tensor | None = None  # (B, T) of the original, as recorded

    def __len__(self) -> int:
        return len(self.completion_ids)

    def rows(self, picked: slice | list[int]) -> Sampled:
        """Some of the completions."""
        return Sampled(
            self.prompt_ids[picked],
            self.prompt_mask[picked],
            self.completion_ids[picked],
            self.completion_mask[picked],
            self.end_token_ids,
            self.logprobs[picked] if self.logprobs is not None else None,
            self.ref_logprobs[picked] if self.ref_logprobs is not None else None,
        )

    def head(self, tokens: int) -> Sampled:
        """The first tokens of every completion."""
        return replace(
            self,
            completion_ids=self.completion_ids[:, :tokens],
            completion_mask=self.completion_mask[:, :tokens],
            logprobs=self.logprobs[:, :tokens] if self.logprobs is not None else None,
            ref_logprobs=self.ref_logprobs[:, :tokens] if self.ref_logprobs is not None else None,
        )


@torch.no_grad()
def logits_of(model: Any, sampled: Sampled, score: Score) -> Tensor:
    """Logits (B, T, V) that predict the completions' tokens, on the model's device."""
    return score(model, sampled.prompt_ids, sampled.prompt_mask, sampled.completion_ids)


def chosen_logprobs(model: Any, sampled: Sampled, score: Score) -> Tensor:
    """log π of the sampled tokens (B, T), on the CPU."""
    pieces = []
    for part in parts(sampled, vocabulary_of(model, sampled, score)):
        logp = logits_of(model, part, score).log_softmax(-1)
        pieces.append(gathered(logp, part.completion_ids.to(logp.device)).cpu())
    return torch.cat(pieces)


def apart(a: Tensor, b: Tensor, mask: Tensor, *, mean: bool = False) -> float:
    """max (or mean) |a - b| where the mask is True, nats; 0 where nothing is."""
    gap = (a.double() - b.double()).abs()[mask]
    return float(gap.mean() if mean else gap.max()) if len(gap) else 0.0


def parts(sampled: Sampled, vocabulary: int) -> Iterator[Sampled]:
    """The completions in pieces whose logits are about `HELD_AT_ONCE` numbers."""
    numbers = sampled.completion_ids.shape[1] * vocabulary  # of one
    rows = max(1, min(8, 16 * HELD_AT_ONCE // numbers), HELD_AT_ONCE // numbers)
    return (sampled.rows(slice(part.start, part.stop)) for part in chunks(len(sampled), rows))


def vocabulary_of(model: Any, sampled: Sampled, score: Score) -> int:
    """The size of the vocabulary, from the logits of one token."""
    return int(logits_of(model, sampled.rows(slice(0, 1)).head(1), score).shape[-1])
