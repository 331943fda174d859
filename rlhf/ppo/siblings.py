"""The processes of this machine that the same launcher started."""

from __future__ import annotations

import os
from typing import Any


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


def is_stopped(rank: int) -> bool:
    """Whether the process of that rank is on this machine and has been stopped by a signal."""
    import psutil

    process = siblings().get(rank)
    try:
        return process is not None and process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    except psutil.Error:
        return False
