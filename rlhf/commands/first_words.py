"""Commands that take a run directory as their first word: `rlhf inspect RUN`."""

from __future__ import annotations

from collections.abc import Sequence


def first_words(argv: Sequence[str], option: str) -> list[str]:
    """Leading words that are no options become the value of `--option`."""
    count = next((i for i, word in enumerate(argv) if word.startswith("-")), len(argv))
    return ([f"--{option}", *argv[:count]] if count else []) + list(argv[count:])
