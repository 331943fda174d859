"""The processes of this machine that the same launcher started."""

from __future__ import annotations

import os
from typing import Any

from rlhf.foundation.errors import InputError


def siblings() -> dict[int, Any]:
    """The living processes (psutil's) of this process's launcher by their rank, this one among them."""
    import psutil

    found = {}
    for child in psutil.Process(os.getppid()).children():
        try:
            if child.status() != psutil.STATUS_ZOMBIE:
                found[int(child.environ().get("RANK", "-1"))] = child
        except (psutil.Error, OSError):
            continue
    return found


def ended_ranks() -> list[int]:
    """Ranks of this machine whose process, started by the same launcher as this one, is no more."""
    living = siblings()
    first = int(os.environ["RANK"]) - int(os.environ.get("LOCAL_RANK", "0"))
    return [rank for rank in range(first, first + int(os.environ.get("LOCAL_WORLD_SIZE", "1"))) if rank not in living]


def ended_peer() -> InputError | None:
    """The line on a process of this run, on this machine, that is no more; None where all of them live."""
    ended = ended_ranks() if int(os.environ.get("WORLD_SIZE", "1")) > 1 else []
    return peer_gone(f"the end of rank {', '.join(map(str, ended))}") if ended else None


def peer_gone(got: str) -> InputError:
    """The line to say when a process of this run is gone; `got` tells which."""
    return InputError(
        "a process of this run",
        got=got,
        expected=f"{os.environ['WORLD_SIZE']} processes until the end",
        fix="look at what ended it (memory, a signal), then continue with the same command and --resume",
    )


def is_stopped(rank: int) -> bool:
    """Whether the process of that rank is on this machine and has been stopped by a signal."""
    import psutil

    process = siblings().get(rank)
    try:
        return process is not None and process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    except psutil.Error:
        return False
