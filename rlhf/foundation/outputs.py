"""No file is replaced unasked, nor the very file that a command reads, nor one that another command wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_json


def check_output(option: str, path: Path, *, overwrite: bool, inputs: Sequence[str | None] = ()) -> None:
    """Refuse to replace what may have cost hours.

    Raises InputError when `path` exists, unless told to overwrite; and always when it is one of `inputs`, or no file.
    """
    if not path.exists():
        return
    if path.is_dir():
        raise InputError(option, got=f"{path}, a directory", expected="a file", fix="choose another path")
    read = [name for name in inputs if name and Path(name).exists() and path.samefile(name)]
    if read:
        raise InputError(option, got=f"{path}, which is read", expected="another file", fix="choose another path")
    if not overwrite:
        fix = "choose another path, or give --overwrite to replace it"
        raise InputError(option, got=f"{path}, a file that exists", expected="a new file", fix=fix)


def check_own(option: str, path: Path, ours: Callable[[Path], bool]) -> None:
    """Refuse to replace a file that this command did not write, for commands whose file may be made anew.

    Raises InputError, also for a directory.
    """
    if path.is_dir():
        raise InputError(option, got=f"{path}, a directory", expected="a file", fix="choose another path")
    if path.exists() and not ours(path):
        got, expected = f"{path}, a file of something else", "a new file, or one that this command wrote"
        raise InputError(option, got=got, expected=expected, fix="choose another path")


def is_page(path: Path) -> bool:
    """Whether a file is a page of `rlhf inspect`."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(200).lstrip().lower().startswith(b"<!doctype html>")


def is_comparison_table(path: Path) -> bool:
    """Whether a file is a table of `rlhf compare`."""
    try:
        content = read_json(path)
    except InputError:
        return False
    return isinstance(content, dict) and content.keys() == {"rewards", "rows"}
