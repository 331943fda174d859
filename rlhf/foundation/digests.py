"""Digests of what a number depends on, and whether files still are what they were."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    """The first of the recorded files that is gone, cut or changed, in words; None when all are what they were.

    `sizes_only` does not read them.
    """
    for name, known in files.items():
        path = root / name
        if not path.is_file():
            return f"{name} is gone"
        size = path.stat().st_size
        if size != known["bytes"]:
            return f"{name} has {size:,} bytes where {known['bytes']:,} were written"
        if not sizes_only and file_digest(path) != known["sha256"]:
            return f"{name} was changed since it was written"
    return None
