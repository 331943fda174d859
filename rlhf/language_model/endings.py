"""When a completion ends, and which ids may never be sampled.

Every end token of the model ends one: the tokenizer's EOS and those that `generation_config.eos_token_id` lists, as in
transformers' `generate` (Gemma's <end_of_turn>, Llama 3's <|eot_id|> stand only there). So does a stop string.

Shapes: B completions, T completion tokens.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlhf.foundation.causal_lm import vocabulary_rows
from rlhf.foundation.encoding import completion_texts
from rlhf.foundation.errors import InputError

BYTES_OF_A_CHARACTER = 4  # a token may hold one byte of a character


@dataclass(frozen=True, slots=True)
class Ending:
    """A completion ends with any of `token_ids`, or as soon as its text holds one of `strings`; both are kept as
    sampled, and neither is part of the completion's text."""

    token_ids: tuple[int, ...]
    tokenizer: Any = None  # which texts and strings are read with
    strings: tuple[str, ...] = ()

    def after(self, tokens: Tensor) -> Tensor:
        """Which completions end with the last of the tokens sampled so far, (B, t) -> (B,) bool."""
        ended = torch.isin(tokens[:, -1], torch.tensor(self.token_ids, device=tokens.device))
        if self.strings:
            window = BYTES_OF_A_CHARACTER * (max(map(len, self.strings)) + 1)
            rows = tokens[:, -window:].tolist()
            texts = completion_texts(self.tokenizer, [[]] * len(rows), rows)
            ended |= torch.tensor([any(s in text for s in self.strings) for text in texts], device=tokens.device)
        return ended

    def ended(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Which completions ended, by ids and mask (B, T); the others were cut at T tokens. (B,) bool."""
        ended = ~mask[:, -1]
        full = mask[:, -1].nonzero().flatten()
        if len(full):
            ended[full] = self.after(ids[full])
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

    Raises InputError when there is no end token, or it lies outside the model: completions could never end.
    """
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
        if i < rows and i not in marks:
            text = tokenizer.decode([i])
            print(f"rlhf: the model's generation_config ends at id {i}, which is {text!r}: not an end", file=sys.stderr)
    return Ending(tuple(sorted({own, *(i for i in others if i < rows and i in marks)})), tokenizer, tuple(stop_strings))


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


def never_sampled(model: Any, tokenizer: Any, suppress_tokens: Sequence[int] = ()) -> list[int]:
    """Ids that sampling and scoring leave out: those asked for, and those without a text (a padded vocabulary has
    more rows than the tokenizer has tokens). Raises InputError when one is none of the model's, or none would be left.
    """
    rows = vocabulary_rows(model)
    for i in suppress_tokens:
        if not 0 <= i < rows:
            raise InputError(
                "--suppress_tokens", got=i, expected=f"ids of the model, 0 to {rows - 1}", fix="leave it out"
            )
    left_out = {*suppress_tokens, *(set(range(rows)) - set(tokenizer.get_vocab().values()))}
    if len(left_out) >= rows:
        raise InputError("--suppress_tokens", got="every token", expected="some that may be sampled", fix="name fewer")
    return sorted(left_out)
