"""One reading of what a cell of a table (or a field of a JSON row) says, wherever it comes from."""

from __future__ import annotations

import math

from rlhf.foundation.errors import InputError

BOOLEANS = {"true": True, "yes": True, "1": True, "1.0": True, "": False}
BOOLEANS |= {"false": False, "no": False, "0": False, "0.0": False}


def read_bool(value: object, place: str) -> bool:
    """true, yes, 1, 1.0 and false, no, 0, 0.0 in any case; None and "" are false. Raises InputError naming `place`."""
    word = "" if value is None else str(value).strip().lower()
    if isinstance(value, (str, bool, int, float, type(None))) and word in BOOLEANS:
        return BOOLEANS[word]
    raise InputError(place, got=f"{value!r}"[:80], expected="true or false (yes, no, 1, 0)", fix="mend that row")


def read_seconds(value: object, place: str) -> float | None:
    """A duration in seconds; None for None, "" and the negative ones that Label Studio accepts. Raises InputError."""
    if value is None or value == "":
        return None
    try:
        number = math.nan if isinstance(value, bool) or not isinstance(value, (str, int, float)) else float(value)
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(place, got=f"{value!r}"[:80], expected="a number of seconds", fix="mend it or leave it empty")
    return number if number >= 0 else None


def unix_lines(value: object) -> object:
    """Line ends as "\\n" in a text, or in every text of a list or object: CSV, editors and browsers change them."""
    if isinstance(value, str):
        return value.replace("\r\n", "\n").replace("\r", "\n")
    if isinstance(value, list):
        return [unix_lines(item) for item in value]
    if isinstance(value, dict):
        return {key: unix_lines(item) for key, item in value.items()}
    return value
