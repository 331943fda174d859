"""Rows of a data set, each with the place to name when it is wrong: a JSON file, a data set's file or directory, or the
name of one on the hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhf.foundation.cells import unix_lines
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import numbered_jsonl, read_json, read_text

Row = dict[str, Any]
Placed = tuple[str, Row]
"""(place, row): the place is a file and its line, or a data set and its row."""
JSON = (".jsonl", ".ndjson", ".json")
_BUILDERS = {".csv": "csv", ".parquet": "parquet", ".arrow": "arrow"}
_SAVED = ("dataset_dict.json", "dataset_info.json")  # of `save_to_disk`


def is_json(path: str | Path) -> bool:
    """Whether a file's name says JSON: .json, .jsonl or .ndjson, in any case."""
    return Path(path).suffix.lower() in JSON


def read_rows(path: Path) -> list[Placed]:
    """The objects of a JSON file, a line or a list's item each; line ends in their texts become "\\n".

    Raises InputError naming the line that is no object.
    """
    if path.suffix.lower() != ".json" or not read_text(path).lstrip().startswith("["):
        return [(f"{path}, line {number}", _unix(row)) for number, row in numbered_jsonl(path)]
    rows = read_json(path)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise InputError(
                f"{path}, item {number}", got=f"a JSON {type(row).__name__}", expected="an object", fix="mend that item"
            )
    return [(f"{path}, item {number}", _unix(row)) for number, row in enumerate(rows, start=1)]


def load_data_set(name: str, split: str, config: str | None = None, *, instead: str = "") -> list[Placed]:
    """The rows of one split of a data set: a hub name (`config` names its subset), a directory, or a file.

    A directory is what `save_to_disk` wrote, or one of files that `datasets` reads; a file is JSON, CSV or Parquet.
    `instead` is what else could be given, for the refusal. Raises InputError when it cannot be had.
    """
    path = Path(name)
    if path.is_file() and is_json(path):
        return read_rows(path)
    try:
        rows = _load(path, name, split, config)
    except InputError:
        raise
    except Exception as error:  # the library raises a dozen kinds for "not there" and "no network"
        raise InputError(
            "--dataset_name",
            got=f"{name} ({_first_line(error)})",
            expected="a data set that can be loaded",
            fix=f"check the name, the split {split!r} and the network{instead and f', or give {instead}'}",
        ) from error
    return [(f"{name}, row {number}", _unix(dict(row))) for number, row in enumerate(rows, start=1)]


def _load(path: Path, name: str, split: str, config: str | None) -> Any:
    import datasets

    datasets.disable_progress_bars()
    if path.is_dir() and any((path / file).exists() for file in _SAVED):
        found = datasets.load_from_disk(name)
        return _one_split(found, name, split) if isinstance(found, Mapping) else found
    if path.is_file():
        builder = _BUILDERS.get(path.suffix.lower())
        if builder is None:
            raise InputError(
                f"data set {name}", got="a file of another kind", expected="JSON, CSV or Parquet", fix="convert it"
            )
        return datasets.load_dataset(builder, data_files=name, split="train")
    return _one_split(datasets.load_dataset(name, config), name, split)


def _one_split(splits: Mapping[Any, Any], name: str, split: str) -> Any:
    if split not in splits:
        names = ", ".join(map(str, splits))
        raise InputError(
            f"data set {name}", got=f"the split {split!r}", expected=f"one of {names}", fix="name one of them"
        )
    return splits[split]


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip()}".splitlines()[0].rstrip(".: ")[:200]


def _unix(row: Row) -> Row:
    return {key: unix_lines(value) for key, value in row.items()}


def renamed(rows: Sequence[Placed], columns: Mapping[str, str | None], hidden: Sequence[str] = ()) -> list[Placed]:
    """Rows in which `columns` (field -> the column that holds it, None for its own name) have their fields' names.

    The columns in `hidden` are left out, unless they were named. Raises InputError for a column that no row has.
    """
    chosen = {field: column for field, column in columns.items() if column is not None}
    there = {key for _, row in rows for key in row}
    for field, column in chosen.items():
        if column not in there:
            raise InputError(
                f"--{field}_column",
                got=column,
                expected=f"one of the columns {', '.join(sorted(there))}",
                fix="name the column that holds it",
            )
    return [
        (place, {k: v for k, v in row.items() if k not in hidden} | {f: row.get(c) for f, c in chosen.items()})
        for place, row in rows
    ]
