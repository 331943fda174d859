"""Prompts from a file or a data set of the hub, as rows with a `prompt` column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_jsonl, read_text


def read_prompts(path: str) -> list[dict[str, Any]]:
    """Rows of a prompt file: JSON lines with a `prompt` (other columns go to the reward functions), or one a line.

    Raises InputError when the file is missing, empty, or a row has no prompt.
    """
    if Path(path).suffix in (".jsonl", ".json"):
        rows = read_jsonl(Path(path))
    else:
        rows = [{"prompt": line} for line in read_text(Path(path)).split("\n") if line.strip()]
    return require_prompts(rows, path)


def load_prompt_dataset(name: str, split: str) -> list[dict[str, Any]]:
    """Rows of a data set of the hub (or a local data set directory). Raises InputError when it cannot be had."""
    import datasets

    try:
        rows = [dict(row) for row in datasets.load_dataset(name, split=split)]
    except Exception as error:  # the library raises a dozen kinds for "not there" and "no network"
        raise InputError(
            "--dataset_name",
            got=f"{name} ({type(error).__name__})",
            expected="a data set that can be loaded",
            fix="check the name, the split and the network, or give --prompts FILE",
        ) from error
    return require_prompts(rows, name)


def require_prompts(rows: list[dict[str, Any]], place: str) -> list[dict[str, Any]]:
    """The rows, if there are any and each has a `prompt`; plain text or chat turns. Raises InputError otherwise."""
    if not rows:
        raise InputError(place, got="no prompt", expected="at least one", fix="check the file")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row.get("prompt"), (str, list)):
            raise InputError(
                f"{place}, row {number}",
                got="no `prompt`",
                expected="a `prompt`, text or chat turns",
                fix="name the column `prompt`",
            )
    return rows
