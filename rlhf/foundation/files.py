"""Files that survive a crash: atomic writes, whole-line appends, and a reader that notices a torn last line."""

from __future__ import annotations

import codecs
import fcntl
import json
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

from rlhf.foundation import long_texts
from rlhf.foundation.errors import InputError, write_failure
from rlhf.foundation.leftovers import sweep
from rlhf.foundation.memory import available

LARGE = 50_000_000  # bytes; below it nobody asks for memory
TEXT_IN_MEMORY = 3  # bytes of memory a byte of a file, at least: the bytes, the text, its lines

Advance = Callable[[int], object]
"""Told how many bytes of a file were read since the last call, for a progress bar."""
LINE = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
# json.dumps makes an encoder at every call, which costs as much as encoding a short row.
_AS_IT_IS = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
_ESCAPED = json.JSONEncoder(allow_nan=False)


def fsync_directory(directory: Path) -> None:
    """Flush a directory entry, so that a rename in it survives a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success fsync it and rename it over `path`, else remove it.

    What a killed writer of `path` left is removed first.
    """
    temporary: Path | None = None
    held: int | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent, path.name)
        held, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        fcntl.flock(held, fcntl.LOCK_EX)  # says that its writer lives
        temporary = Path(name)
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(0o666 & ~current_umask())
        temporary.replace(path)
        fsync_directory(path.parent)
    except OSError as error:
        raise write_failure(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if held is not None:
            os.close(held)


def current_umask() -> int:
    """The process's file mode mask (it can only be read by setting it)."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically (temporary file, fsync, rename). Raises InputError when the disk refuses."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Write JSON atomically; NaN and infinity are refused (ValueError), since JSON has no such numbers."""
    write_text(path, _encodable(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises InputError when it is missing, not UTF-8, not JSON that Python can hold, or has a text beyond all length.
    """
    text = read_text(path)  # its InputError is a ValueError too
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            str(path),
            got=f"no valid JSON ({json_problem(error)})",
            expected="a JSON file",
            fix="restore the file or make it anew with the command that wrote it",
        ) from error
    if len(text) > long_texts.LONGEST:
        long_texts.require_short(value, str(path))
    return value


Made = TypeVar("Made")


def read_as(path: Path, make: Callable[[Any], Made]) -> Made:
    """What `make` makes of a JSON file. Raises InputError like `read_json`, and where it is of another shape."""
    value = read_json(path)
    try:
        return make(value)
    except InputError:
        raise
    except (TypeError, KeyError, AttributeError, ValueError, IndexError, OverflowError) as error:
        raise InputError(
            str(path),
            got=f"JSON of another shape, a {type(value).__name__}",
            expected="the file as its command wrote it",
            fix="restore it from a copy, or make it anew",
        ) from error


def read_object(path: Path, *keys: str) -> dict[str, Any]:
    """A JSON object whose `keys` are objects. Raises InputError."""
    return read_as(path, lambda value: {**value, **{key: dict(**value[key]) for key in keys}})


def json_problem(error: Exception) -> str:
    """What is wrong with JSON; nesting and numbers may be more than Python reads."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg}, line {error.lineno}" if error.lineno > 1 else error.msg
    return "nested too deep" if isinstance(error, RecursionError) else "a number of thousands of digits"


def read_text(path: Path) -> str:
    """Read a UTF-8 text file, without a byte-order mark; line ends become "\\n".

    Raises InputError when it is missing, a directory, a pipe or device (read to the end it may never be), more than
    memory holds, unreadable or not UTF-8.
    """
    try:
        require_ordinary(path)
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise not_utf8(path, error.start) from error
    except OSError as error:
        raise unreadable(path, error) from error


def not_utf8(path: Path, offset: int) -> InputError:
    """The line about bytes that are no UTF-8 at `offset` of a file."""
    return InputError(
        str(path),
        got=f"bytes that are not UTF-8 at offset {offset}",
        expected="a UTF-8 text file",
        fix="convert it, for example with `iconv -t utf-8`",
    )


def unreadable(path: Path, error: OSError) -> InputError:
    """The line about a file that is missing, a directory or not ours to read."""
    return InputError(
        str(path),
        got=(error.strerror or "an unreadable file").lower(),
        expected="an existing readable file",
        fix="check the path",
    )


def byte_lines(path: Path, advance: Advance | None = None) -> Iterator[tuple[int, bytes]]:
    """The lines of a file with their ends, one in memory at a time, each with the offset of its first byte.

    Lines end as `read_text` has it: "\\n", "\\r\\n" or "\\r". A byte-order mark is left out. Raises InputError when the
    file cannot be read, and for a line beyond all length.
    """
    try:
        require_ordinary(path, in_memory=1)
        with path.open("rb") as stream:
            offset = 0
            for number, read in enumerate(_cut(stream, advance), start=1):
                line = read.removeprefix(codecs.BOM_UTF8) if offset == 0 else read
                offset += len(read) - len(line)
                if len(line) > long_texts.LONGEST:
                    raise long_texts.too_long(f"{path}, line {number}", _whole_size(line, stream), "bytes")
                yield offset, line
                offset += len(line)
    except OSError as error:
        raise unreadable(path, error) from error


def _cut(stream: BinaryIO, advance: Advance | None) -> Iterator[bytes]:
    """The lines of a stream with their ends; of one beyond all length, last of all, what was read of it."""
    rest = b""
    while read := stream.readline(long_texts.LONGEST):
        line = rest + read
        pieces = LINE.findall(line) if b"\r" in line else [line]
        rest = b"" if line.endswith(b"\n") else pieces.pop()  # a "\r" at the end may belong to a "\r\n"
        yield from pieces
        if len(rest) > long_texts.LONGEST:
            break
        if advance is not None:
            advance(len(read))
    if rest:
        yield rest


def _whole_size(line: bytes, stream: BinaryIO) -> int:
    """How long a line is of which `line` was read, its end not counted; what follows is read and let go."""
    size = len(line.rstrip(b"\r\n"))
    while line and not line.endswith((b"\r", b"\n")):
        line = (LINE.findall(stream.readline(long_texts.LONGEST)) or [b""])[0]
        size += len(line.rstrip(b"\r\n"))
    return size


class TextLine(NamedTuple):
    """A line of text with its end, its number from 1, and the offset of its first byte."""

    number: int
    offset: int
    text: str


def text_lines(path: Path, advance: Advance | None = None) -> Iterator[TextLine]:
    """The lines of `byte_lines` as text. Raises InputError as it does, and for what is not UTF-8."""
    for number, (offset, line) in enumerate(byte_lines(path, advance), start=1):
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise not_utf8(path, offset + error.start) from error
        yield TextLine(number, offset, text)


def require_ordinary(path: Path, in_memory: int = TEXT_IN_MEMORY) -> None:
    """Raise InputError for a pipe, a device, and a file that memory cannot hold; OSError where nothing is.

    `in_memory` is how many bytes of memory a byte of the file may take.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        fix = "save what it holds to a file first"
        raise InputError(str(path), got="a pipe or a device", expected="an ordinary file", fix=fix)
    if found.st_size > LARGE and found.st_size * in_memory > available():
        got = f"a file of {found.st_size / 1e9:,.1f} GB"
        raise InputError(str(path), got=got, expected="one that fits into memory", fix="give it in parts")


def json_line(row: Mapping[str, object]) -> str:
    """One JSON line with its newline; a lone surrogate, which UTF-8 cannot hold, is written as its \\u escape."""
    return json_bytes(row).decode() + "\n"


def json_bytes(value: object) -> bytes:
    """JSON on one line in UTF-8; a lone surrogate is written as its escape, NaN and infinity raise ValueError."""
    try:
        return _AS_IT_IS.encode(value).encode()
    except UnicodeEncodeError:
        return _ESCAPED.encode(value).encode()


def _encodable(value: object, *, indent: int) -> str:
    text = json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(value, indent=indent, allow_nan=False)
    return text


def write_jsonl(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write JSON lines atomically, each as `rows` gives it."""
    with replacing(path) as temporary, temporary.open("wb") as stream:
        stream.writelines(json_bytes(row) + b"\n" for row in rows)


def append_jsonl(path: Path, row: Mapping[str, object]) -> None:
    """Append one whole line in a single write and flush it to the disk."""
    try:
        with path.open("ab", buffering=0) as stream:
            stream.write(json_line(row).encode())
            os.fsync(stream.fileno())
    except OSError as error:
        raise write_failure(path, error) from error


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The objects of `iter_jsonl`."""
    return [line.row for line in iter_jsonl(path)]


class JsonLine(NamedTuple):
    """An object of a file of JSON lines, the number of its line from 1, and the offset of the line's first byte."""

    number: int
    offset: int
    row: dict[str, Any]


def iter_jsonl(path: Path, advance: Advance | None = None) -> Iterator[JsonLine]:
    """Read JSON lines, one object a line, one in memory at a time; blank lines are passed over.

    Raises InputError naming the line when one is not a JSON object; a last line without a newline that does not
    parse is called torn (a writer was stopped in the middle of it).
    """
    # Not splitlines(): U+2028 inside a JSON string is no line end.
    for number, offset, line in text_lines(path, advance):
        if not line or line.isspace():
            continue
        try:
            row = json.loads(line.rstrip("\r\n"))
        except (ValueError, RecursionError) as error:
            torn = isinstance(error, json.JSONDecodeError) and not line.endswith(("\n", "\r"))
            raise InputError(
                f"{path}, line {number}",
                got="a torn last line" if torn else f"no valid JSON ({json_problem(error)})",
                expected="one JSON object a line",
                fix="delete that line (its writer was interrupted)" if torn else "mend or delete that line",
            ) from error
        if not isinstance(row, dict):
            raise InputError(
                f"{path}, line {number}",
                got=f"a JSON {type(row).__name__}",
                expected="one JSON object a line",
                fix="mend or delete that line",
            )
        yield JsonLine(number, offset, row)
