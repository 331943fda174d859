"""Digests of what a number depends on, and whether files still are what they were."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rlhf.foundation.files import write_json

# What is recorded of a file: its size in bytes and its SHA-256.
FileDigest = dict[str, Any]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's whole content. Raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def value_digest(value: object) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys; what JSON has no word for counts by its type."""
    text = json.dumps(value, sort_keys=True, default=lambda thing: f"a {type(thing).__name__}")
    return hashlib.sha256(text.encode()).hexdigest()


def digest_files(root: Path, *places: str) -> dict[str, FileDigest]:
    """Size and digest of every file at `places`, files or directories below `root`, by path relative to `root`."""
    found = {}
    for place in places:
        path = root / place
        for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
            found[file.relative_to(root).as_posix()] = {"bytes": file.stat().st_size, "sha256": file_digest(file)}
    return found


def damage(root: Path, files: Mapping[str, FileDigest], *, sizes_only: bool = False) -> str | None:
    """The first of `damages`; None when all are what they were."""
    return next(damages(root, files, sizes_only=sizes_only), None)


def damages(root: Path, files: Mapping[str, FileDigest], *, sizes_only: bool = False) -> Iterator[str]:
    """Those of the recorded files that are gone, cut or changed, in words; `sizes_only` does not read them."""
    for name, known in files.items():
        path = root / name
        if not path.is_file():
            yield f"{name} is gone"
        elif (size := path.stat().st_size) != known["bytes"]:
            yield f"{name} has {size:,} bytes where {known['bytes']:,} were written"
        elif not sizes_only and file_digest(path) != known["sha256"]:
            yield f"{name} was changed since it was written"


SEAL = "content_sha256"


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with the digest of its own content in it, so that it tells when it was changed by other hands."""
    content = {key: part for key, part in value.items() if key != SEAL}
    return {**content, SEAL: _content_digest(content)}


def seal_holds(value: Mapping[str, Any]) -> bool | None:
    """Whether a JSON object still is what was sealed; None where it carries no seal (an old one)."""
    if SEAL not in value:
        return None
    return bool(value[SEAL] == _content_digest({key: part for key, part in value.items() if key != SEAL}))


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object with its seal, atomically. Raises InputError when the disk refuses."""
    write_json(path, sealed(value))


def _content_digest(content: Mapping[str, Any]) -> str:
    return value_digest(json.loads(json.dumps(content)))  # as it is read back: every key a text
