"""Options that hold a value in place of its file: how messages and records name it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any


def place_of(value: Any) -> str:
    """What a message calls a value: a path as it is, else what it is and how much of it, "in memory"."""
    if isinstance(value, str):
        return value
    named = getattr(value, "name", None) or getattr(value, "place", None) or getattr(value, "__name__", None)
    if isinstance(named, str):
        return named
    if isinstance(value, Sequence):
        kind = type(value[0]).__name__.lower() if value else "row"
        return f"{len(value):,} {kind}s in memory"
    return f"a {type(value).__name__} in memory"


def recorded(value: Any) -> Any:
    """An option as JSON can hold it: plain values and lists of them as they are, anything else by its name."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, list) and not any(dataclasses.is_dataclass(item) for item in value):
        return [recorded(item) for item in value]
    return place_of(value)
