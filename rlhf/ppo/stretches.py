"""Where this process is in its run: in a stretch of its own work, or in a meeting, a collective that all come to.

All processes come to the same meetings in the same order, so the number of meetings begun says who is behind. How long
one may wait there for the others is measured, not guessed: `straggler_timeout` seconds beyond what it took itself for
the stretch before, or, where the rows of a stretch are shared out unevenly, beyond what the largest share would have
taken. What only one process does (files, trackers, a loop's own code) says nothing of how long it takes.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple


class Place(NamedTuple):
    """Where a process is. `since` is its own clock's (time.monotonic)."""

    meetings: int  # begun so far
    phase: str
    alone: bool  # one process may do this while the others wait, for as long as it takes
    waiting: bool  # in a meeting
    since: float  # begin of the meeting, or of the stretch
    patience: float  # seconds that this process waits in its meeting for one that is behind

    def note(self, number: int, now: float) -> list[object]:
        """As the others read it: `number` is another one each time."""
        return [number, self.meetings, self.phase, self.alone, now - self.since]


class Stretches:
    """Keeps `place`, which another thread may read at any time; `changed` is set when another stretch begins."""

    def __init__(self) -> None:
        self.straggler_timeout: float | None = None
        self.changed = threading.Event()
        self.place = Place(0, "starting", True, False, time.monotonic(), math.inf)
        self._share: tuple[int, int] | None = None
        self._pace: dict[str, float] = {}

    def begin(self, phase: str, *, alone: bool = False, share: tuple[int, int] | None = None) -> None:
        """A stretch of work begins; `share` is the rows that this process has of it and the most that one has."""
        self.place = self.place._replace(phase=phase, alone=alone, waiting=False, since=time.monotonic())
        self._share = share
        self.changed.set()

    @contextmanager
    def meeting(self) -> Iterator[None]:
        """A collective; the stretch goes on behind it."""
        now, place = time.monotonic(), self.place
        patience = self._patience(place.phase, now - place.since)
        self.place = place._replace(meetings=place.meetings + 1, waiting=True, since=now, patience=patience)
        try:
            yield
        finally:
            self.place = self.place._replace(waiting=False, since=time.monotonic())

    def _patience(self, phase: str, took: float) -> float:
        if self.straggler_timeout is None:
            return math.inf
        if self._share is None:
            return self.straggler_timeout + took
        (own, most), self._share = self._share, None
        if own:
            self._pace[phase] = took / own
        return self.straggler_timeout + self._pace.get(phase, math.inf) * most


def share_of(rows: Sequence[range], rank: int, world_size: int) -> tuple[int, int]:
    """Rows of a rank and the most of any, where chunk c of `rows` belongs to rank c mod world_size."""
    counts = [sum(map(len, rows[r::world_size])) for r in range(world_size)]
    return counts[rank], max(counts)
