"""When a completion ends, and which ids may never be sampled.

Every end token of the model ends one: the tokenizer's EOS and those that `generation_config.eos_token_id` lists, as in
transformers' `generate` (Gemma's <end_of_turn>, Llama 3's <|eot_id|> stand only there). So does a stop string.

Shapes: B completions, T completion tokens.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from rlhf.foundation.causal_lm import vocabulary_rows
from rlhf.foundation.encoding import UNREADABLE, completion_texts
from rlhf.foundation.errors import InputError

BYTES_OF_A_CHARACTER = 4  # a token may hold one byte of a character


@dataclass(frozen=True, slots=True)
class Ending:
    """A completion ends with any of `token_ids`, or as soon as its text holds one of `strings`; both are kept as
    sampled, and neither is part of the completion's text."""

    token_ids: tuple[int, ...]
    tokenizer: Any = None  # which texts and strings are read with
    strings: tuple[str, ...] = ()

    def after(self, tokens: Tensor, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Which completions end with the last of the tokens sampled so far, (B, t) -> (B,) bool.

        `prompts` are the ids of the B prompts: a stop string counts in the text that stands after them.
        """
        last = tokens[:, -1]
        ended = torch.zeros_like(last, dtype=torch.bool)
        for i in self.token_ids:  # numbers, not a tensor: nothing is copied to a GPU at every token
            ended |= last == i
        if self.strings:
            stopped = [self._holds_stop(*pair) for pair in zip(prompts, tokens.tolist(), strict=True)]
            ended |= torch.tensor(stopped, device=tokens.device)
        return ended

    def _holds_stop(self, prompt: Sequence[int], completion: list[int]) -> bool:
        """Whether a stop string stands in the completion's text; only its last tokens are read where that suffices."""
        window = BYTES_OF_A_CHARACTER * (max(map(len, self.strings)) + 1)
        text = self._text(completion[-2 * window : -window] or prompt[-window:], completion[-window:])
        if UNREADABLE in text:  # bytes that the window may have torn from their character
            text = self._text(prompt, completion)
        return any(string in text for string in self.strings)

    def _text(self, prompt: Sequence[int], completion: Sequence[int]) -> str:
        return completion_texts(self.tokenizer, [prompt], [completion])[0]

    def ended(self, ids: Tensor, mask: Tensor, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Which completions ended, by ids and mask (B, T); the others were cut at T tokens. (B,) bool."""
        ended = ~mask[:, -1]
        full = mask[:, -1].nonzero().flatten()
        if len(full):
            ended[full] = self.after(ids[full], [prompts[i] for i in full.tolist()])
        return ended

    def texts(self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]) -> list[str]:
        """The texts of completions given as ids: up to the first end token or stop string."""
        rows = [row[:-1] if row and row[-1] in self.token_ids else row for row in completions]
        return [self._before_stop(text) for text in completion_texts(self.tokenizer, prompts, rows)]

    def _before_stop(self, text: str) -> str:
        return text[: min((place for s in self.strings if (place := text.find(s)) >= 0), default=len(text))]


def ending_of(model: Any, tokenizer: Any, stop_strings: Sequence[str] = ()) -> Ending:
    """How completions of a model end. An id that the tokenizer holds for ordinary text is no end, whatever the model's
    defaults say: told on stderr.

    Raises InputError when there is no end token or it lies outside the model (completions could never end), and for an
    empty stop string (they would end at once).
    """
    if "" in stop_strings:
        raise InputError("--stop_strings", got="an empty text", expected="texts to stop at", fix="leave it out")
    own, rows = end_token(tokenizer), vocabulary_rows(model)
    if own >= rows:
        raise InputError(
            "tokenizer",
            got=f"the end token {tokenizer.eos_token} as id {own} of {rows} that the model has",
            expected="an end token that the model can sample",
            fix="resize the model's embeddings, or set another `eos_token`",
        )
    listed = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    others = [] if listed is None else [int(i) for i in (listed if isinstance(listed, list) else [listed])]
    marks = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    for i in others:
        if 0 <= i < rows and i not in marks:  # some configs say -1 for none
            _tell_no_end(i, tokenizer.decode([i]))
    return Ending(tuple(sorted({own, *(i for i in others if i in marks and i < rows)})), tokenizer, tuple(stop_strings))


@lru_cache  # once a process, not at every rung
def _tell_no_end(token_id: int, text: str) -> None:
    print(f"rlhf: the model's generation_config ends at id {token_id}, which is {text!r}: not an end", file=sys.stderr)


def end_token(tokenizer: Any) -> int:
    """The tokenizer's own end token. Raises InputError when it has none."""
    if tokenizer.eos_token_id is None:
        raise InputError(
            "tokenizer",
            got="no EOS token",
            expected="an end token, so that completions can end",
            fix="set `tokenizer.eos_token` and save the tokenizer again",
        )
    return int(tokenizer.eos_token_id)


def pad_token(tokenizer: Any) -> int:
    """The id that fills masked places: the pad token, or EOS where there is none (masks never read it)."""
    return int(tokenizer.pad_token_id) if tokenizer.pad_token_id is not None else end_token(tokenizer)


def require_ids(model: Any, suppress_tokens: Sequence[int]) -> None:
    """Raise InputError when one of `suppress_tokens` is none of the model's."""
    rows = vocabulary_rows(model)
    for i in suppress_tokens:
        if not 0 <= i < rows:
            raise InputError(
                "--suppress_tokens", got=i, expected=f"ids of the model, 0 to {rows - 1}", fix="leave it out"
            )


def never_sampled(model: Any, tokenizer: Any, suppress_tokens: Sequence[int] = ()) -> list[int]:
    """Ids that sampling and scoring leave out: those asked for, and those without a text (a padded vocabulary has
    more rows than the tokenizer has tokens). Raises InputError when one is none of the model's, or none would be left.
    """
    rows = vocabulary_rows(model)
    require_ids(model, suppress_tokens)
    left_out = {*suppress_tokens, *(set(range(rows)) - set(tokenizer.get_vocab().values()))}
    if len(left_out) >= rows:
        raise InputError("--suppress_tokens", got="every token", expected="some that may be sampled", fix="name fewer")
    return sorted(left_out)
