"""The roll call before processes meet: torch waits half an hour for one that ended on its way; this names it sooner."""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import psutil
from torch.distributed import DistError, TCPStore  # type: ignore[attr-defined]

from rlhf.foundation.errors import InputError
from rlhf.ppo.siblings import ended_ranks

LOOK_SECONDS = 0.05


@functools.cache  # the store must live as long as the process that keeps it for the others
def await_all(straggler_timeout: float) -> TCPStore:
    """Wait until every process of the launch is there: as long as this one took to come, and `straggler_timeout` more.

    At the address where torch will let them meet (MASTER_ADDR and MASTER_PORT; torchrun's own store if it has one).
    Raises InputError naming the ranks that did not come.
    """
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    seconds = _patience(straggler_timeout)
    until = time.monotonic() + seconds
    keeper = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    try:
        store = TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            world_size,
            keeper,
            timedelta(seconds=seconds),
            wait_for_workers=False,
            multi_tenant=True,  # the meeting itself is at the same port
        )
    except DistError as error:
        if keeper:  # it is the address that is wrong
            raise
        raise _missing([0], seconds) from error
    place = f"rlhf/arrived/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    store.set(f"{place}/{rank}", "here")
    while missing := [one for one in range(world_size) if not store.check([f"{place}/{one}"])]:
        if time.monotonic() > until:
            raise _missing(missing, seconds)
        time.sleep(LOOK_SECONDS)
    return store


@contextmanager
def meeting_within(straggler_timeout: float, tell: Callable[[InputError], None]) -> Iterator[None]:
    """End this process with status 2 where what is inside, torch's own meeting, takes longer than the roll call may.

    A process that ends between the two keeps the others for torch's half hour. `tell` is given the line first.
    """
    seconds = _patience(straggler_timeout)

    def end() -> None:
        ended = ended_ranks()
        which = f"the end of rank {', '.join(map(str, ended))}" if ended else f"no meeting of all in {seconds:.0f} s"
        tell(
            InputError(
                "a process of this run",
                got=f"{which}, after all had arrived",
                expected=f"{os.environ['WORLD_SIZE']} processes",
                fix="look at what ended or keeps it (memory, a signal, the network), then start again",
            )
        )
        os._exit(2)  # the main thread waits inside torch

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _patience(straggler_timeout: float) -> float:
    """Seconds: as long as this process took to come here, and `straggler_timeout` more."""
    return time.time() - float(psutil.Process().create_time()) + straggler_timeout


def _missing(ranks: list[int], seconds: float) -> InputError:
    named = f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}"
    return InputError(
        "a process of this run",
        got=f"no sign of {named} in {seconds:.0f} s",
        expected=f"{os.environ['WORLD_SIZE']} processes",
        fix="look at what ended or keeps it (memory, a signal, the network), then start again; "
        "raise --straggler_timeout if it only starts late",
    )
