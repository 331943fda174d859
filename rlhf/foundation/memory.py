"""What a command would need in memory against what the machine has: refused in one line, not killed after an hour."""

from __future__ import annotations

from collections.abc import Mapping

from rlhf.foundation.errors import InputError

PER_RECORD = 1000  # bytes of a sample or label as a Python object with its texts, roughly
PER_TOKEN = 64  # bytes of a token of a rollout: ids, mask and a few float64 numbers


def available() -> int:
    """Bytes that can be had without swapping."""
    import psutil

    return int(psutil.virtual_memory().available)


def of_completions(count: int, tokens: int) -> int:
    """Bytes that so many completions of at most so many tokens take."""
    return count * (PER_RECORD + PER_TOKEN * tokens)


def require_memory(needed: int, counts: Mapping[str, int]) -> None:
    """Raise InputError when `needed` bytes are beyond this machine, naming the largest of the options' `counts`."""
    there = available()
    if needed > there:
        name = max(counts, key=lambda option: counts[option])
        raise InputError(
            f"--{name}",
            got=f"{counts[name]:,}, for which about {_size(needed)} of memory would be needed",
            expected=f"at most what this machine has free, {_size(there)}",
            fix="choose a smaller one",
        )


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count < 1e15 else f"{count / 1e9:.1e} GB"
