"""Prompts from a file or a data set, as rows with a `prompt` column: text, or messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhf.foundation.conversation import as_prompt, prompt_from_text
from rlhf.foundation.data_sets import Placed, is_table, load_data_set, renamed
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_text
from rlhf.foundation.layouts import require_encodable

Rows = list[dict[str, Any]]


Prompts = str | Sequence[str] | Sequence[Mapping[str, Any]] | Sequence[list[Any]]
"""A prompt file, or prompts in memory: text, messages, or rows with a `prompt`."""


def prompts_of(given: Prompts, option: str, column: str | None = None) -> Rows:
    """The rows of a prompt file or in memory. Raises InputError as `read_prompts`."""
    if isinstance(given, str):
        return read_prompts(given, column)
    rows = [{"prompt": row} if isinstance(row, (str, list)) else dict(row) for row in given]
    placed = [(f"{option}, item {number}", row) for number, row in enumerate(rows, start=1)]
    return as_rows([row for _, row in renamed(placed, {"prompt": column})], option)


def read_prompts(path: str, column: str | None = None) -> Rows:
    """Rows of a prompt file: JSON, CSV or Parquet by its name, with a column `prompt` (or `column`), else one a line.

    Other columns go to the reward functions. Raises InputError when the file is missing, empty, or a row has no prompt.
    """
    if is_table(path):
        return load_prompt_dataset(path, column=column)
    if column is not None:
        fix = "give a JSON, CSV or Parquet file, or leave it out"
        raise InputError("--prompt_column", got=f"a file of lines, {path}", expected="a file with columns", fix=fix)
    lines = enumerate(read_text(Path(path)).split("\n"), start=1)
    return _require_prompts([(f"{path}, line {n}", {"prompt": line}) for n, line in lines if line.strip()], path)


def load_prompt_dataset(
    name: str, split: str = "train", *, config: str | None = None, column: str | None = None
) -> Rows:
    """Rows of a data set of the hub, a directory or a file. Raises InputError when it cannot be had."""
    rows = load_data_set(name, split, config, instead="--prompts FILE")
    return _require_prompts(renamed(rows, {"prompt": column}), name)


def _require_prompts(rows: Sequence[Placed], place: str) -> Rows:
    """The rows, if there are any and each has a `prompt`; plain text or chat turns. Raises InputError otherwise."""
    if not rows:
        raise InputError(place, got="no prompt", expected="at least one", fix="check the file")
    return [{**row, "prompt": read_prompt(row.get("prompt"), place)} for place, row in rows]


def read_prompt(value: object, place: str) -> Any:
    """A prompt as the trainer has it: text, or messages with text as content. Raises InputError naming `place`."""
    if not isinstance(value, (str, list)):
        raise InputError(
            place,
            got="no `prompt`" if value is None else f"a {type(value).__name__} as prompt",
            expected="a `prompt`: text, or a list of messages",
            fix="mend that row, or name the column that holds it",
        )
    prompt = prompt_from_text(as_prompt(value, f"{place}, prompt"))
    require_encodable(prompt, f"{place}, prompt")
    return prompt


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
