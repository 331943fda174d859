"""Times as instants: an answer is later than another by the clock, not by how its time is spelled."""

from __future__ import annotations

from datetime import UTC, datetime

from rlhf.foundation.errors import InputError

UNKNOWN = datetime.min.replace(tzinfo=UTC)
"""No time was given: older than any that was."""


def instant(text: object, place: str) -> datetime:
    """The instant of an ISO 8601 time, in UTC: with `Z` or an offset, with or without fractions of a second.

    A time without an offset is taken as UTC; None and "" are `UNKNOWN`. Raises InputError naming `place` for anything
    else.
    """
    if text is None or text == "":
        return UNKNOWN
    try:
        if not isinstance(text, str):
            raise ValueError
        read = datetime.fromisoformat(text.strip())
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InputError(
            place,
            got=f"the time {text!r}"[:80],
            expected="ISO 8601, like 2026-01-31T09:30:00Z",
            fix="write it so, leave it empty, or give the column another name",
        ) from None


def microseconds(text: object, place: str) -> int:
    """`instant` as microseconds since the year 1; 0 where no time was given."""
    passed = instant(text, place) - UNKNOWN
    return (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds
