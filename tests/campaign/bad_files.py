"""Conditions that any file may be in, made from a good one of its kind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

DEEP = "[" * 20_000
LONG_NUMBER = "1" + "0" * 5_000
Condition = Callable[[Path, bytes], None]


def _holding(change: Callable[[bytes], bytes]) -> Condition:
    return lambda path, good: void(path.write_bytes(change(good)))


def void(_: object) -> None:
    """For the sake of an expression."""


def _middle(good: bytes) -> bytes:
    lines = good.splitlines(keepends=True)
    cut = len(lines) // 2
    return b"".join([*lines[:cut], lines[cut][: len(lines[cut]) // 2] + b"\n", *lines[cut + 1 :]])


def _link(target: str) -> Condition:
    return lambda path, good: path.symlink_to(target)


# What no command can make sense of, whatever it reads.
NEVER: dict[str, Condition] = {
    "missing": lambda path, good: None,
    "a directory": lambda path, good: path.mkdir(),
    "empty": _holding(lambda good: b""),
    "white space": _holding(lambda good: b" \n\n \n"),
    "binary": _holding(lambda good: bytes(range(256)) * 40),
    "UTF-16": _holding(lambda good: good.decode().encode("utf-16")),
    "Latin-1": _holding(lambda good: good + "é".encode("latin-1")),
    "lone surrogate": _holding(lambda good: good + b"\xed\xa0\x80\n"),
    "a pipe": lambda path, good: os.mkfifo(path),
    "/dev/zero": _link("/dev/zero"),
    "/dev/null": _link("/dev/null"),
    "a dangling link": _link("nowhere"),
    "a link to itself": lambda path, good: path.symlink_to(path.name),
    "more than memory": lambda path, good: _sparse(path),
}
# What a file of JSON cannot be.
JSON_NEVER: dict[str, Condition] = {
    "one byte": _holding(lambda good: b"x"),
    "NUL inside": _holding(lambda good: good[: len(good) // 2] + b"\0" + good[len(good) // 2 :]),
    "torn last line": _holding(lambda good: good.rstrip()[:-7]),
    "torn middle line": _holding(_middle),
    "a number": _holding(lambda good: b"3\n"),
    "null": _holding(lambda good: b"null\n"),
    "a text": _holding(lambda good: b'"text"\n'),
    "a list of numbers": _holding(lambda good: b"[1, 2]\n"),
    "empty list": _holding(lambda good: b"[]\n"),
    "empty object": _holding(lambda good: b"{}\n"),
    "another object": _holding(lambda good: b'{"a": 1}\n'),
    "nested deep": _holding(lambda good: (DEEP + "\n").encode()),
    "long number": _holding(lambda good: f'{{"a": {LONG_NUMBER}}}\n'.encode()),
    "NaN": _holding(lambda good: b"NaN\n"),
}
# What may be read or refused, in one line.
PERHAPS: dict[str, Condition] = {
    "BOM": _holding(lambda good: b"\xef\xbb\xbf" + good),
    "CR LF": _holding(lambda good: good.replace(b"\n", b"\r\n")),
    "CR": _holding(lambda good: good.replace(b"\n", b"\r")),
    "rows twice": _holding(lambda good: good + good),
    "no newline at the end": _holding(lambda good: good.rstrip(b"\n")),
    "blank lines": _holding(lambda good: good.replace(b"\n", b"\n\n")),
    "escaped surrogate": _holding(lambda good: good.replace(b"the", b"\\ud800", 1)),
    "hostile text": _holding(lambda good: good.replace(b"the", b"\\u001b[31m<b>\\u202e`x`", 1)),
}


# One word of 64 MB where the last letter o stood: a record's text, or a file of options with no end.
LONG: dict[str, Condition] = {
    "one long word": _holding(lambda good: good.rpartition(b"o")[0] + b"o" * 64_000_000 + good.rpartition(b"o")[2]),
}


def _sparse(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(1 << 42)


def make(name: str, path: Path, good: bytes) -> None:
    """Put the good file at `path` into the named condition; a condition of `good` bytes."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        path.unlink()
    ({**NEVER, **JSON_NEVER, **PERHAPS, **LONG})[name](path, good)
