"""What a process keeps of the others that were launched with it, once for the whole process."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from typing import Any

from torch.distributed import DistError

from rlhf.ppo.board import Board
from rlhf.ppo.straggler import GRACE, Watch
from rlhf.ppo.stretches import Stretches

LATEST = 1800.0  # seconds for all to have started, as torch.distributed has it


class Company:
    """The board they share, where this process is, and the watch over them while a run goes on."""

    def __init__(self) -> None:
        self.board, self.stretches, self.exchanges = Board.connect(), Stretches(), 0
        self._watch: Watch | None = None

    def roll_call(self, name: str, note: Any) -> list[Any]:
        """The notes (JSON) of all processes, by rank, before they can meet in a collective."""
        self.board.post(name, {"note": note})
        deadline = time.monotonic() + LATEST
        while None in (found := self.board.read(name)) and time.monotonic() < deadline:
            time.sleep(0.1)
        return [one and one["note"] for one in found]

    def watch_over(self, straggler_timeout: float, tell_once: Callable[[], bool]) -> None:
        """Begin to watch, unless this is done already."""
        if self._watch is None:
            self._watch = Watch(self.stretches, straggler_timeout, tell_once)

    def watch_no_longer(self) -> None:
        """End the watch's threads."""
        if self._watch is not None:
            self._watch.close()
            self._watch = self._watch if self._watch.ending else None

    @property
    def ending(self) -> bool:
        """Whether the watch has found who hangs and ends the run."""
        return self._watch is not None and self._watch.ending

    def behind(self) -> str | None:
        """Who is behind this process and in what, as last heard; None where that is not known."""
        return self._watch.behind() if self._watch is not None else None

    def first(self, name: str) -> bool:
        """Whether no rank has asked this before; True where the store does not answer."""
        answers: list[bool] = []

        def ask() -> None:
            try:
                answers.append(self.board.first(name))
            except DistError:
                answers.append(True)

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(GRACE)
        return answers[0] if answers else True


@functools.cache
def company() -> Company:
    """The one of this process; only for one that was launched with others."""
    return Company()
