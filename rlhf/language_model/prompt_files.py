"""Prompts from a file or a data set, as rows with a `prompt` column: text, or messages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlhf.foundation.conversation import as_prompt, prompt_from_text
from rlhf.foundation.data_sets import Placed, is_table, load_data_set, renamed
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import text_lines
from rlhf.foundation.layouts import require_encodable

Rows = list[dict[str, Any]]


def read_prompts(path: str, column: str | None = None) -> Rows:
    """Rows of a prompt file: JSON, CSV or Parquet by its name, with a column `prompt` (or `column`), else one a line.

    Other columns go to the reward functions. Raises InputError when the file is missing, empty, or a row has no prompt.
    """
    if is_table(path):
        return load_prompt_dataset(path, column=column)
    if column is not None:
        fix = "give a JSON, CSV or Parquet file, or leave it out"
        raise InputError("--prompt_column", got=f"a file of lines, {path}", expected="a file with columns", fix=fix)
    lines = ((f"{path}, line {line.number}", line.text.rstrip("\r\n")) for line in text_lines(Path(path)))
    return _require_prompts([(place, {"prompt": text}) for place, text in lines if text.strip()], path)


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
