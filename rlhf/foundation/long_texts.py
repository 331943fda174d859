"""One limit for the length of a record: a tokenizer takes eighty bytes and a microsecond for each character.

Every reader of other people's files holds to it, so that a broken row is named before it fills the memory.
"""

from __future__ import annotations

from typing import Any, Literal

from rlhf.foundation.errors import InputError

LONGEST = 10_000_000  # characters, or bytes where they are no characters yet; a million tokens take four million
Unit = Literal["bytes", "characters"]


def too_long(place: str, size: int, unit: Unit = "characters", *, at_least: bool = False) -> InputError:
    """The line about a record of `size`, which was not read further where it is `at_least` that."""
    return InputError(
        place,
        got=f"a record of {'more than ' if at_least else ''}{size:,} {unit}",
        expected=f"at most {LONGEST:,}",
        fix="cut it, leave it out, or check what separates the records",
    )


def require_short(value: Any, place: str) -> None:
    """Raise InputError for a text beyond the limit in a list or object, however deep, naming where it stands."""
    inside = [(place, value)]
    while inside:
        where, item = inside.pop()
        if isinstance(item, str) and len(item) > LONGEST:
            raise too_long(where, len(item))
        if isinstance(item, dict):
            inside += [(f"{where}, a name", name) for name in item if _may_be_long(name)]
            inside += [(f"{where}, {str(name)[:80]}", one) for name, one in item.items() if _may_be_long(one)]
        elif isinstance(item, list):
            inside += [(f"{where}, item {number}", one) for number, one in enumerate(item, 1) if _may_be_long(one)]


def _may_be_long(value: Any) -> bool:
    return isinstance(value, (dict, list)) or (isinstance(value, str) and len(value) > LONGEST)
