"""Rows of a data set, each with the place to name when it is wrong: a JSON file, a data set's file or directory, or the
name of one on the hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from logging import CRITICAL
from pathlib import Path
from typing import Any

from rlhf.foundation.cells import unix_lines
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import iter_jsonl, require_ordinary
from rlhf.foundation.json_arrays import is_array, iter_array
from rlhf.foundation.long_texts import require_short

Row = dict[str, Any]
Placed = tuple[str, Row]
"""(place, row): the place is a file and its line, or a data set and its row."""
JSON = (".jsonl", ".ndjson", ".json")
_BUILDERS = {".csv": "csv", ".parquet": "parquet", ".arrow": "arrow"}
_SAVED = ("dataset_dict.json", "dataset_info.json")  # of `save_to_disk`


def is_json(path: str | Path) -> bool:
    """Whether a file's name says JSON: .json, .jsonl or .ndjson, in any case."""
    return Path(path).suffix.lower() in JSON


def is_table(path: str | Path) -> bool:
    """Whether a file's name says that it holds rows with columns: JSON, CSV or Parquet, in any case."""
    return is_json(path) or Path(path).suffix.lower() in _BUILDERS


def read_rows(path: Path) -> list[Placed]:
    """The objects of a JSON file, a line or a list's item each; line ends in their texts become "\\n".

    Raises InputError naming the line that is no object.
    """
    if path.suffix.lower() != ".json" or not is_array(path):
        return [(f"{path}, line {line.number}", _unix(line.row)) for line in iter_jsonl(path)]
    rows = []
    for number, row in enumerate(iter_array(path), start=1):
        if not isinstance(row, dict):
            raise InputError(
                f"{path}, item {number}", got=f"a JSON {type(row).__name__}", expected="an object", fix="mend that item"
            )
        rows.append((f"{path}, item {number}", _unix(row)))
    return rows


def load_data_set(name: str, split: str, config: str | None = None, *, instead: str = "") -> list[Placed]:
    """The rows of one split of a data set: a hub name (`config` names its subset), a directory, or a file.

    A directory is what `save_to_disk` wrote, or one of files that `datasets` reads; a file is JSON, CSV or Parquet.
    `instead` is what else could be given, for the refusal. Raises InputError when it cannot be had.
    """
    path = Path(name)
    if is_json(path) and not path.is_dir():
        return read_rows(path)
    try:
        rows = _load(path, name, split, config)
    except InputError:
        raise
    except Exception as raised:  # the library raises a dozen kinds for "not there" and "no network"
        error = raised.__cause__ if isinstance(raised.__cause__, ValueError) else raised  # what a reader says of a row
        raise InputError(
            "--dataset_name",
            got=f"{name} ({_first_line(error)})",
            expected="a data set that can be loaded",
            fix=f"check the name, the split {split!r} and the network{instead and f', or give {instead}'}",
        ) from error
    placed = [(f"{name}, row {number}", _unix(dict(row))) for number, row in enumerate(rows, start=1)]
    for place, row in placed:
        require_short(row, place)
    return placed


def _load(path: Path, name: str, split: str, config: str | None) -> Any:
    import datasets
    import huggingface_hub

    datasets.disable_progress_bars()
    datasets.utils.logging.set_verbosity(CRITICAL)  # what failed is told in one line
    if path.is_dir() and any((path / file).exists() for file in _SAVED):
        found = datasets.load_from_disk(name)
        return _one_split(found, name, split) if isinstance(found, Mapping) else found
    if is_table(path):
        if not path.is_file():
            raise InputError(name, got="no such file", expected="an existing readable file", fix="check the path")
        require_ordinary(path)
        return datasets.load_dataset(_BUILDERS[path.suffix.lower()], data_files=name, split="train")
    if not (path.exists() or huggingface_hub.constants.HF_HUB_OFFLINE):
        # Asked once: `datasets` would retry for half a minute before it says that the network is down.
        huggingface_hub.HfApi().dataset_info(name, timeout=10)
    return datasets.load_dataset(name, config, split=split)


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
