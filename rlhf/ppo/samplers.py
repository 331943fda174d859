"""Samplers as distributions: what each setting of `generate` makes of the policy's logits, in transformers' order.

Shapes: n tokens, S = P + T places of prompt and completion, V vocabulary. Log-probs are in nats.

As transformers' logits processors have it: repetition penalty (Keskar et al. 2019; it divides positive and multiplies
negative logits of every token of prompt and completion so far), n-gram ban, suppressed tokens, minimum length, forced
end, then temperature, top-k, top-p (Holtzman et al. 2020), min-p (Nguyen et al. 2024) and typical-p (Meister et al.
2023). Padding never counts as seen.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

# A truncation is fitted at its edge: the last token it keeps may move across it by rounding.
SLACK = 1e-5
IMPOSSIBLE = -math.inf


class Context(NamedTuple):
    """Where each of n tokens stands."""

    sequences: Tensor  # (n, S) ids of prompt and completion
    first: Tensor  # (n,) place of the first real token of its sequence
    place: Tensor  # (n,) its own place in its sequence
    position: Tensor  # (n,) its position in the completion, from 0
    length: int  # tokens of the longest completion
    end_token_ids: tuple[int, ...]
    marked: Tensor | None = None  # (n, V) bool: `seen`, where it was kept

    def seen(self, vocabulary: int) -> Tensor:
        """Tokens that stand before, in prompt or completion: (n, V) bool."""
        if self.marked is not None:
            return self.marked
        places = torch.arange(self.sequences.shape[1], device=self.sequences.device)
        before = (places >= self.first[:, None]) & (places < self.place[:, None])
        return _marked(torch.where(before, self.sequences, vocabulary), vocabulary)

    def repeating(self, size: int, vocabulary: int) -> Tensor:
        """Tokens that would complete a run of `size` tokens which stands before: (n, V) bool."""
        if self.sequences.shape[1] < size:
            return torch.zeros(len(self.sequences), vocabulary, dtype=torch.bool, device=self.sequences.device)
        windows = self.sequences.unfold(1, size, 1)  # (n, S - size + 1, size)
        starts = torch.arange(windows.shape[1], device=self.sequences.device)
        before = (starts >= self.first[:, None]) & (starts + size <= self.place[:, None])
        last = self.place[:, None] + torch.arange(1 - size, 0, device=self.sequences.device)
        match = (windows[..., :-1] == self.sequences.gather(1, last.clamp(min=0))[:, None]).all(-1) & before
        return _marked(torch.where(match, windows[..., -1], vocabulary), vocabulary)


def _marked(ids: Tensor, vocabulary: int) -> Tensor:
    """True at the ids of each row; the id V marks nothing. (n, V)"""
    marks = torch.zeros(len(ids), vocabulary + 1, dtype=torch.bool, device=ids.device)
    return marks.scatter_(1, ids, True)[:, :vocabulary]


class Sampler(NamedTuple):
    """Settings as `generate` names them; a default leaves the distribution alone."""

    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    suppressed: tuple[int, ...] = ()
    min_new_tokens: int = 0
    forced_end: int = 0  # the completion's length at which the end token is forced
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0

    def logprobs(self, logits: Tensor, context: Context) -> Tensor:
        """log q (n, V) from the policy's logits (n, V) at temperature 1; -inf where a token cannot come."""
        x = self.penalised(logits, context)
        if self.no_repeat_ngram_size:
            x = x.masked_fill(context.repeating(self.no_repeat_ngram_size, x.shape[-1]), IMPOSSIBLE)
        if self.suppressed:
            x = x.index_fill(-1, torch.tensor(self.suppressed, device=x.device), IMPOSSIBLE)
        x = self._ended(x, context) / self.temperature
        if self.top_k:
            x = x.masked_fill(x < x.topk(min(self.top_k, x.shape[-1])).values[:, -1:], IMPOSSIBLE)
        logq = x.log_softmax(-1)
        for key, setting in (("top_p", self.top_p), ("typical_p", self.typical_p)):
            if setting < 1:
                logq = logq.masked_fill(~_first_mass(preference(key, logq), logq, setting), IMPOSSIBLE).log_softmax(-1)
        if self.min_p > 0:
            least = logq.amax(-1, keepdim=True) + math.log(self.min_p) - SLACK
            logq = logq.masked_fill(logq < least, IMPOSSIBLE).log_softmax(-1)
        return logq

    def penalised(self, logits: Tensor, context: Context) -> Tensor:
        """Logits after the repetition penalty, (n, V) float32 or wider."""
        x = logits if logits.dtype == torch.float64 else logits.float()
        if self.repetition_penalty == 1:
            return x
        penalised = torch.where(x < 0, x * self.repetition_penalty, x / self.repetition_penalty)
        return torch.where(context.seen(x.shape[-1]), penalised, x)

    def _ended(self, x: Tensor, context: Context) -> Tensor:
        """No end token before the minimum length; nothing else at the forced end."""
        if not self.min_new_tokens and not self.forced_end:
            return x
        ends = torch.tensor(context.end_token_ids, device=x.device)
        is_end = torch.isin(torch.arange(x.shape[-1], device=x.device), ends)
        early = (context.position < self.min_new_tokens)[:, None]
        forced = (context.position == self.forced_end - 1)[:, None]
        return x.masked_fill((early & is_end) | (forced & ~is_end), IMPOSSIBLE)

    def at(self, setting: str, value: float) -> Sampler:
        """The sampler with one setting changed."""
        changed: dict[str, Any] = {setting: round(value) if setting == "top_k" else value}
        return self._replace(**changed)

    def named(self) -> dict[str, str]:
        """What is altered: the field's names and settings."""
        ids = ", ".join(map(str, self.suppressed[:5])) + (", ..." if len(self.suppressed) > 5 else "")
        texts = {
            "repetition penalty": self.repetition_penalty != 1 and f"{self.repetition_penalty:.2f}",
            "n-gram ban": self.no_repeat_ngram_size and f"n = {self.no_repeat_ngram_size}",
            "suppressed tokens": self.suppressed and f"{len(self.suppressed)} never sampled: {ids}",
            "minimum length": self.min_new_tokens and f"no end token among the first {self.min_new_tokens} tokens",
            "forced end": self.forced_end and f"token {self.forced_end} is always the end token",
            "temperature": self.temperature != 1 and f"{self.temperature:.2f}",
            "top-k": self.top_k and f"k = {self.top_k}",
            "top-p": self.top_p < 1 and f"p = {self.top_p:.2f}",
            "min-p": self.min_p > 0 and f"{self.min_p:.2g} of the likeliest token's",
            "typical-p": self.typical_p < 1 and f"p = {self.typical_p:.2f}",
        }
        return {name: str(text) for name, text in texts.items() if text}


def preference(setting: str, logq: Tensor) -> Tensor:
    """What top-p and typical-p keep first, (n, V): the likeliest, or those whose surprisal is nearest the entropy."""
    if setting == "top_p":
        return logq
    entropy = -torch.where(logq > IMPOSSIBLE, logq.exp() * logq, 0.0).sum(-1, keepdim=True)
    return -(logq + entropy).abs()


def _first_mass(preferred: Tensor, logq: Tensor, mass: float) -> Tensor:
    """The tokens preferred most that a total probability `mass` takes in, (n, V) bool."""
    for width in (64, 1024, logq.shape[-1]):  # few tokens are kept, and sorting them all is slow
        order = preferred.topk(min(width, logq.shape[-1])).indices
        p = logq.gather(-1, order).exp().double()
        cumulative = p.cumsum(-1)
        if bool((cumulative[:, -1] > mass + SLACK).all()):
            break
    return torch.zeros_like(logq, dtype=torch.bool).scatter_(-1, order, cumulative - p <= mass + SLACK)


def edge(setting: str, logq: Tensor, ids: Tensor) -> Tensor:
    """The setting at which a truncation of log q (n, V) just keeps each sampled token: (n,) float64."""
    chosen = logq.gather(-1, ids[:, None])
    if setting == "top_k":
        return (logq > chosen).sum(-1).double() + 1
    if setting == "min_p":
        return (chosen.squeeze(-1) - logq.amax(-1)).exp().double()
    preferred = preference(setting, logq)
    before = preferred > preferred.gather(-1, ids[:, None])
    return torch.where(before, logq.exp(), 0.0).sum(-1).double()
