"""Prompts: as ids, each encoded once; and which of them a completion answers, a pure function of its index."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from rlhf.foundation.causal_lm import require_embeddings
from rlhf.foundation.conversation import Text, prompt_to_text
from rlhf.foundation.encoding import encode_prompt
from rlhf.foundation.errors import InputError
from rlhf.language_model.randomness import Stream, generator

Row = Mapping[str, Any]


class PromptEncoder:
    """Prompts, plain or conversational, as ids; each is encoded once."""

    def __init__(self, tokenizer: Any, embeddings: int) -> None:
        """`embeddings` is how many ids the model can read."""
        self.tokenizer, self.embeddings = tokenizer, embeddings
        self._known: dict[tuple[type, str], list[int]] = {}

    def __call__(self, prompt: Text) -> list[int]:
        """The ids of a prompt. Raises InputError when there are none, the model has no embedding for one, or a
        conversation cannot be written."""
        key = (type(prompt), prompt_to_text(prompt))
        if key not in self._known:
            self._known[key] = encode_prompt(self.tokenizer, prompt)
            if not self._known[key]:
                raise InputError(
                    "prompt", got=f"{prompt!r}, which has no token", expected="at least one token", fix="mend that row"
                )
            require_embeddings(self.embeddings, self.tokenizer, self._known[key], "the prompts")
        return self._known[key]

    def longest(self, rows: Iterable[Row]) -> int:
        """Tokens of the longest prompt. Raises InputError when there is no row."""
        lengths = [len(self(row["prompt"])) for row in rows]
        if not lengths:
            raise InputError(
                "train_dataset", got="no prompts", expected="at least one row", fix="check the data set's columns"
            )
        return max(lengths)


class PromptSchedule:
    """Every prompt once a pass in a new order, `num_generations` completions in a row for each.

    The prompt of completion i depends on (seed, i) alone, so batch growth, resuming and layout cannot change it.
    """

    def __init__(self, count: int, *, num_generations: int, seed: int) -> None:
        """`count` is the number of prompts, at least 1."""
        self.count, self.num_generations, self.seed = count, num_generations, seed
        self._order = lru_cache(maxsize=2)(self._order_of_pass)

    def _order_of_pass(self, number: int) -> Sequence[int]:
        return [int(i) for i in generator(self.seed, Stream.PROMPTS, number).permutation(self.count)]

    def __call__(self, index: int) -> int:
        """The prompt number of completion `index`, counted over the whole run."""
        number, place = divmod(index // self.num_generations, self.count)
        return self._order(number)[place]
