"""Text becomes token ids, in one way for training and for scoring.

The ids are: BOS, then prompt and completion tokenized as one text. The completion counts up to its first EOS, which
is left out. An empty completion without a prompt is BOS alone. Of an over-long text the end is kept (BOS stays).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rlhf.foundation.errors import InputError


class Batch(NamedTuple):
    """Right-padded ids. `rows` says which texts of the given list they are."""

    rows: list[int]
    input_ids: Tensor  # (B, T)
    mask: Tensor  # (B, T) bool, True on real tokens
    last: Tensor  # (B,) index of the last real token


class TextEncoder:
    """Encodes texts with one tokenizer. `literal` are special tokens that a text may spell but never contain."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, *, max_length: int | None, literal: Sequence[str] = ()
    ) -> None:
        """`max_length` in tokens, BOS included; None for no limit. Raises InputError without BOS and EOS."""
        first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        if first is None:
            raise InputError(
                "tokenizer",
                got="neither a BOS nor an EOS token",
                expected="at least one of them",
                fix="set `tokenizer.bos_token` and save the tokenizer again",
            )
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.first_id = int(first)
        self._literal = tuple(literal)
        self._stops = [str(tokenizer.eos_token)] if tokenizer.eos_token is not None else []
        self._starts = [str(tokenizer.bos_token)] if tokenizer.bos_token is not None else []

    def text(self, prompt: str, completion: str) -> str:
        """Prompt and completion as the one text that is tokenized: no EOS and what follows it, no BOS written out."""
        for token in self._stops:
            completion = completion.split(token, 1)[0]
        return self._without_start(prompt + completion)

    def encode(self, prompts: Sequence[str], completions: Sequence[str]) -> list[list[int]]:
        """Ids of each text, BOS first, at most `max_length` of them (the end is kept)."""
        return self.encode_texts([self.text(p, c) for p, c in zip(prompts, completions, strict=True)])

    def encode_texts(self, texts: Sequence[str]) -> list[list[int]]:
        """The same for texts that are whole already, such as rendered conversations: every EOS in them stays."""
        texts = [self._without_start(text) for text in texts]
        plain = [i for i, text in enumerate(texts) if not any(token in text for token in self._literal)]
        spelled = sorted(set(range(len(texts))) - set(plain))
        found: dict[int, list[int]] = {}
        # A text that spells a reward token out must not be read as holding it: that would be a loophole.
        for rows, split in ((plain, False), (spelled, True)):
            if rows:
                batch = [texts[i] for i in rows]
                encoded = self.tokenizer(batch, add_special_tokens=False, split_special_tokens=split)["input_ids"]
                found.update(zip(rows, encoded, strict=True))
        return [self._shorten([self.first_id, *found[i]]) for i in range(len(texts))]

    def _without_start(self, text: str) -> str:
        for token in self._starts:
            text = text.removeprefix(token)
        return text

    def _shorten(self, ids: list[int]) -> list[int]:
        if self.max_length is None or len(ids) <= self.max_length:
            return ids
        return [ids[0], *ids[len(ids) - self.max_length + 1 :]]


def batches(
    encoded: Sequence[Sequence[int]], *, max_tokens: int, pad_id: int, device: torch.device | str = "cpu"
) -> Iterator[Batch]:
    """All texts, shortest first, in batches of at most `max_tokens` padded tokens (a longer text goes alone)."""
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    rows: list[int] = []
    for i in order:
        if rows and (len(rows) + 1) * len(encoded[i]) > max_tokens:
            yield pad(encoded, rows, pad_id, device)
            rows = []
        rows.append(i)
    if rows:
        yield pad(encoded, rows, pad_id, device)


def pad(encoded: Sequence[Sequence[int]], rows: list[int], pad_id: int, device: torch.device | str = "cpu") -> Batch:
    """The texts `rows` as one right-padded batch."""
    lengths = torch.tensor([len(encoded[i]) for i in rows])
    width = int(lengths.max())
    ids = torch.tensor([[*encoded[i], *[pad_id] * (width - len(encoded[i]))] for i in rows])
    mask = torch.arange(width)[None] < lengths[:, None]
    return Batch(rows, ids.to(device), mask.to(device), (lengths - 1).to(device))
