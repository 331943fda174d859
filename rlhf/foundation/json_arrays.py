"""The items of a file that holds one JSON list, one in memory at a time.

Not ijson, which reads the same files: its parser (yajl) turns the escape of a lone surrogate into a question mark, a
number with a point into a Decimal, and refuses NaN. Here Python's own `json` reads the items, as everywhere else.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

from rlhf.foundation import long_texts
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import Advance, not_utf8, read_json, require_ordinary, unreadable

CHUNK = 1 << 20
"""Bytes read at once; an item that is longer is waited for, twice as much each time."""
NEAR = 16
"""Characters from the end of what was read within which an error may be for want of the rest: -Infinity, \\uD83D."""
SPACE = re.compile(r"[ \t\n\r]*")
AFTER = tuple(" \t\n\r,]")


def is_array(path: Path) -> bool:
    """Whether a file begins as a JSON list does. Raises InputError when it cannot be read."""
    try:
        require_ordinary(path, in_memory=1)
        with path.open("rb") as stream:
            return stream.read(4096).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")
    except OSError as error:
        raise unreadable(path, error) from error


def iter_array(path: Path, advance: Advance | None = None) -> Iterator[Any]:
    """The items of a JSON list. Raises InputError as `read_json` does, once what is before the fault was yielded."""
    try:
        require_ordinary(path, in_memory=1)
        with path.open("rb") as stream:
            yield from _Reader(path, stream, advance).items()
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        read_json(path)  # says in its own words what is wrong, and on which line
        raise InputError(
            str(path), got=f"no valid JSON list ({error})", expected="a JSON list", fix="make the file anew"
        ) from error
    except OSError as error:
        raise unreadable(path, error) from error


class _Reader:
    """What was read of a list and not yet yielded: `text` from `at` on."""

    def __init__(self, path: Path, stream: BufferedReader, advance: Advance | None) -> None:
        self.path, self.stream, self.advance = path, stream, advance
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.parse = json.JSONDecoder().raw_decode
        self.text, self.at, self.ended, self.bytes_read = "", 0, False, 0
        if stream.peek(3).startswith(codecs.BOM_UTF8):
            self._count(stream.read(3))

    def items(self) -> Iterator[Any]:
        """The items, up to the end of the file. Raises ValueError for what is no list."""
        self._take("[")
        if self._next() != "]":
            yield self._item(number := 1)
            while self._next() == ",":
                self._take(",")
                yield self._item(number := number + 1)
        self._take("]")
        if self._next():
            raise ValueError("more after the list's end")

    def _item(self, number: int) -> Any:
        self._next()
        place = f"{self.path}, item {number}"
        while True:
            try:
                item, end = self.parse(self.text, self.at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated string") or error.pos >= len(self.text) - NEAR
                if self.ended or not cut:
                    raise
            else:
                goes_on = self.text[end : end + 1] not in AFTER and end >= len(self.text) - NEAR  # as 1 in 1.5e7 may
                if self.ended or not goes_on:
                    if end - self.at > long_texts.LONGEST:
                        raise long_texts.too_long(place, end - self.at)
                    self.at = end
                    return item
            if len(self.text) - self.at > long_texts.LONGEST:
                raise long_texts.too_long(place, len(self.text) - self.at, at_least=True)
            self._read()

    def _next(self) -> str:
        """The next character that is no white space, "" at the end of the file."""
        while True:
            match = SPACE.match(self.text, self.at)
            assert match is not None  # it matches nothing, too
            self.at = match.end()
            if self.at < len(self.text) or self.ended:
                return self.text[self.at : self.at + 1]
            self._read()

    def _take(self, character: str) -> None:
        if self._next() != character:
            raise ValueError(f"no {character!r}")
        self.at += 1

    def _read(self) -> None:
        """Read on, at least as much as is still unread; what was yielded is let go."""
        rest = self.text[self.at :]
        read = self.stream.read(max(CHUNK, 2 * len(rest)))
        self.ended = not read
        begins = self.bytes_read - len(self.decoder.getstate()[0])  # half a character may have come before
        try:
            self.text, self.at = rest + self.decoder.decode(read, self.ended), 0
        except UnicodeDecodeError as error:
            raise not_utf8(self.path, begins + error.start) from error
        self._count(read)

    def _count(self, read: bytes) -> None:
        self.bytes_read += len(read)
        if self.advance is not None:
            self.advance(len(read))
