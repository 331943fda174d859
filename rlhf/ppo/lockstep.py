"""Work that all processes do in equally many steps, for each of which they meet: what cut models (sharding.py) need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

Work = TypeVar("Work")


def in_step(shares: Sequence[Sequence[Work]], rank: int, *, together: bool) -> Iterator[tuple[Work, bool]]:
    """A rank's share of the work, and whether each piece is its own.

    `together`: as many pieces as the largest share has, the missing ones done once more and thrown away.
    """
    own = list(shares[rank])
    most = max(map(len, shares)) if together else len(own)
    filler = next((piece for share in shares for piece in share), None)
    for number in range(most):
        if number < len(own):
            yield own[number], True
        elif filler is not None:
            yield filler, False
