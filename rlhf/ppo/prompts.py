"""Prompts: as ids, each encoded once; and which of them a completion answers, a pure function of its index."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from rlhf.foundation.causal_lm import require_embeddings
from rlhf.foundation.conversation import Text, prompt_to_text
from rlhf.foundation.encoding import encode_prompt
from rlhf.foundation.errors import InputError
from rlhf.language_model.prompt_files import read_prompt
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


def as_rows(dataset: Iterable[Any], name: str) -> list[dict[str, Any]]:
    """The rows of a data set, their prompts text or messages with text as content; a column that a row lacks is None.

    Raises InputError naming the row that has no such prompt, and for a data set of several splits.
    """
    if isinstance(dataset, Mapping):
        splits = ", ".join(map(str, dataset))
        raise InputError(
            name, got=f"splits ({splits})", expected="the rows of one split", fix=f"give {name}['train'], for example"
        )
    if not isinstance(dataset, Iterable) or isinstance(dataset, str | bytes):
        got = f"a {type(dataset).__name__}"
        raise InputError(name, got=got, expected="rows with a `prompt`", fix="give a list or a data set")
    rows = [_as_row(row, f"{name}, row {number}") for number, row in enumerate(dataset, start=1)]
    columns = dict.fromkeys(column for row in rows for column in row)
    return [{column: row.get(column) for column in columns} for row in rows]


def as_both_rows(train: Iterable[Any] | None, evaluation: Iterable[Any] | None) -> tuple[list[dict[str, Any]], ...]:
    """Training rows (None: one unconditional prompt) and evaluation rows (None: the training rows), as `as_rows` has.

    Both have the same columns, so that a reward function finds what it names on the rungs too: None where it is not.
    """
    train_rows = as_rows([{"prompt": ""}] if train is None else train, "train_dataset")
    eval_rows = train_rows if evaluation is None else as_rows(evaluation, "eval_dataset")
    columns = dict.fromkeys(column for rows in (train_rows, eval_rows) for row in rows[:1] for column in row)
    return tuple([{column: row.get(column) for column in columns} for row in rows] for rows in (train_rows, eval_rows))


def _as_row(row: Any, place: str) -> dict[str, Any]:
    if not isinstance(row, Mapping):
        raise InputError(
            place, got=f"a {type(row).__name__}", expected="a row with a `prompt`", fix="check the data set's columns"
        )
    return {**row, "prompt": read_prompt(row.get("prompt"), place)}


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
