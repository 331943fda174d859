"""A process that hangs, or has stopped, ends the run within a minute instead of at the collective's own timeout.

Each process tells the others where it is, through a `Board`; whoever waits in a meeting longer than its
patience (stretches.py) for a process that has not come there, or is not heard of, says so in one line and ends the run:
state and files are written atomically, so that nothing is lost. One thread speaks with the store, whose calls may
hang themselves, another judges; the main thread may sit in a call that never returns, so the end is os._exit. It does
not count while this process itself is stopped.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from torch.distributed import DistError, DistNetworkError

from rlhf.foundation.errors import InputError
from rlhf.ppo.board import Board
from rlhf.ppo.siblings import is_stopped, siblings
from rlhf.ppo.stretches import Stretches

EVERY = 1.0  # seconds from note to note, less with a short timeout
GRACE = 3.0  # seconds to end by oneself, once the end is told
ENDED = "ended"


class Peer(NamedTuple):
    """Another process as it was last heard of."""

    number: int = -1
    meetings: int = 0
    phase: str = "starting"
    alone: bool = True
    seconds: float = 0.0  # in that phase, by its own clock


class Late(NamedTuple):
    """Who is waited for in vain. `silent` is for how long it has not been heard of, None where it has been."""

    rank: int
    peer: Peer
    silent: float | None


class Judge:
    """Decides from what is heard whom to wait for no longer; its clock runs only while this process does."""

    def __init__(
        self, rank: int, world_size: int, straggler_timeout: float, stopped: Callable[[int], bool] = is_stopped
    ) -> None:
        """`stopped` says of a rank whether it is known to have been stopped by a signal."""
        self.straggler_timeout, self.rank, self.stopped = straggler_timeout, rank, stopped
        self.peers = {other: Peer() for other in range(world_size) if other != rank}
        self.silent = dict.fromkeys(self.peers, 0.0)
        self.waited, self._meeting = 0.0, -1

    def hear(self, notes: list[list[Any] | None], seconds: float) -> None:
        """What the board holds now, `seconds` after the last time."""
        for rank in self.peers:
            note = notes[rank] if rank < len(notes) else None
            heard = note is not None and note[0] != self.peers[rank].number
            self.silent[rank] = 0.0 if heard else self.silent[rank] + seconds
            if note is not None and heard:
                self.peers[rank] = Peer(*note)

    def late(self, meetings: int, waiting: bool, patience: float, seconds: float) -> Late | None:
        """The rank that is behind, `seconds` after the last question; None while there is reason to wait."""
        self.waited = self.waited + seconds if waiting and meetings == self._meeting else 0.0
        self._meeting = meetings if waiting else -1
        if not waiting:
            return None
        behind = [self._late(rank, meetings, patience) for rank in self.peers]
        found = [late for late in behind if late is not None]
        return min(found, key=lambda late: (late.peer.meetings, late.silent is None), default=None)

    def _late(self, rank: int, meetings: int, patience: float) -> Late | None:
        peer, silent = self.peers[rank], self.silent[rank]
        if silent > self.straggler_timeout and self.stopped(rank):
            return Late(rank, peer, silent)
        if peer.alone or self.waited <= patience:
            return None
        if silent > self.straggler_timeout:
            return Late(rank, peer, silent)
        return Late(rank, peer, None) if peer.meetings < meetings and peer.seconds + silent > patience else None


class Watch:
    """The two threads of one process. `tell_once` is asked, before a line is printed, whether none has been."""

    def __init__(self, stretches: Stretches, straggler_timeout: float, tell_once: Callable[[], bool]) -> None:
        self.stretches, self.tell_once = stretches, tell_once
        stretches.straggler_timeout = straggler_timeout
        self.every = min(EVERY, straggler_timeout / 4)
        self.board = Board.connect()
        self.judge = Judge(self.board.rank, self.board.world_size, straggler_timeout)
        self._notes: list[Any] = []
        self._verdict: str | None = None
        self._verdict_is_up, self._over, self._lost = threading.Event(), threading.Event(), False
        self.ending = False  # the run: this process has told why, or is about to
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._speak, self._listen)]
        for thread in self._threads:
            thread.start()
        atexit.register(self.close)  # a thread inside the store must not meet the interpreter's end

    def close(self) -> None:
        """End the threads."""
        self._over.set()
        self.stretches.changed.set()
        for thread in self._threads:
            thread.join(timeout=2 * GRACE)
        atexit.unregister(self.close)

    def behind(self) -> str | None:
        """Who is behind this process and in what, as last heard, however patient one may be; None if nobody is."""
        peers = self.judge.peers
        rank = min(peers, key=lambda r: peers[r].meetings)
        if peers[rank].meetings >= self.stretches.place.meetings:
            return None
        return f"rank {rank} still in {peers[rank].phase} after {peers[rank].seconds:.0f} s"

    def _speak(self) -> None:
        """Tell and ask until the store is gone, with the launcher; a peer's end is for the collective to notice."""
        number = 0
        while not self._over.is_set():
            # At once where a stretch begins: one that then falls silent is judged by what it was about to do.
            self.stretches.changed.wait(self.every)
            self.stretches.changed.clear()
            number += 1
            try:
                self._exchange(number)
            except DistNetworkError:
                self._lost = True
                return
            except DistError:  # no answer in time
                continue

    def _exchange(self, number: int) -> None:
        """Post where this process is and read where the others are; end with them when one has told why."""
        self.board.post("place", self.stretches.place.note(number, time.monotonic()))
        if self._verdict is not None and not self._verdict_is_up.is_set():
            self.board.post(ENDED, self._verdict)
            self._verdict_is_up.set()
        if not self.ending and any(self.board.read(ENDED)):
            os._exit(2)
        self._notes = self.board.read("place")

    def _listen(self) -> None:
        last = time.monotonic()
        while not self._over.wait(self.every):
            now = time.monotonic()
            seconds, last = min(now - last, 2 * self.every), now
            self.judge.hear(self._notes, seconds)
            place = self.stretches.place
            late = self.judge.late(place.meetings, place.waiting, place.patience, seconds)
            if late is not None and not self._lost and not self._over.is_set():
                self._end(late)

    def _end(self, late: Late) -> None:
        """Say who is late and end this process, and that one if it is here and cannot end itself."""
        self.ending = True
        line = str(self._line(late))
        if self.tell_once():
            print(f"rlhf: {line}", file=sys.stderr, flush=True)
        self._verdict = line
        self._verdict_is_up.wait(GRACE)
        deadline = time.monotonic() + (GRACE if late.silent is None else 0)
        while (process := siblings().get(late.rank)) is not None and time.monotonic() < deadline:
            time.sleep(0.1)
        if process is not None:
            os.kill(process.pid, signal.SIGKILL)
        os._exit(2)

    def _line(self, late: Late) -> InputError:
        waited = f"rank {self.judge.rank} waiting {self.judge.waited:.0f} s for it in "
        waited += self.stretches.place.phase
        silence = f"no sign of rank {late.rank} for {late.silent or 0:.0f} s (stopped, or in a call that never returns)"
        return InputError(
            "a process of this run",
            got=f"rank {late.rank} still in {late.peer.phase}, {waited}"
            if late.silent is None
            else f"{silence}, last seen in {late.peer.phase}, {waited}",
            expected=f"processes that keep together but for --straggler_timeout {self.judge.straggler_timeout:g} s",
            fix="look at what holds it there, then continue with the same command and --resume",
        )
