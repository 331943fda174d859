"""No file is replaced unasked, nor the very file that a command reads, nor one that another command wrote."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_json, replacing, write_json
from rlhf.foundation.locks import made_for


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


Writer = Callable[[Path], object]


class OwnFiles:
    """Files by name in a directory, with a `record` beside that says what they are and which names are ours.

    Files that an earlier call wrote there, as its record says, are replaced, and go where they are not written again.
    Raises InputError, before anything is written, where a name is taken by another file.
    """

    def __init__(
        self, option: str, directory: Path, record: str, writers: Mapping[str, Writer], about: Mapping[str, Any]
    ) -> None:
        """Each writer writes a whole file at the path it gets; `about` is what the record says of them."""
        self.directory, self.record, self.writers, self.about = directory, directory / record, writers, about
        kinds = {Path(name).suffix for name in writers}
        self._known = {name for name in _recorded(option, directory, self.record) if Path(name).suffix in kinds}
        for name in writers:
            check_own(option, directory / name, lambda path: path.name in self._known)

    def write(self) -> list[Path]:
        """Write them, each atomically; returns their paths."""
        with made_for(self.directory):
            self._record({*self._known, *self.writers})  # what a killed call has written stays ours
            for name, write in self.writers.items():
                with replacing(self.directory / name) as temporary:
                    write(temporary)
            for name in self._known - self.writers.keys():
                (self.directory / name).unlink(missing_ok=True)
            self._record({*self.writers})
        return [self.directory / name for name in self.writers]

    def _record(self, names: Collection[str]) -> None:
        write_json(self.record, {**self.about, "files": sorted(names)})


def _recorded(option: str, directory: Path, record: Path) -> list[str]:
    """Names of the files that the record of an earlier call claims. Raises InputError where it is no such record."""
    if directory.exists() and not directory.is_dir():
        raise InputError(option, got=f"{directory}, a file", expected="a directory", fix="choose another path")
    check_own(option, record, _is_record)
    return [name for name in read_json(record)["files"] if Path(name).name == name] if record.exists() else []


def _is_record(path: Path) -> bool:
    try:
        content = read_json(path)
    except InputError:
        return False
    listed = content.get("files") if isinstance(content, dict) else None
    return isinstance(listed, list) and all(isinstance(name, str) for name in listed)
