"""Runs commands of `rlhf` in forked children, each with a fault of its own: one import of torch for hundreds of runs.

    LD_PRELOAD=faults.so python tests/campaign/forking.py

Reads one JSON request a line (see faults.py, `Commands`) and answers each with one JSON line. The parent only imports:
it runs no operation of torch, so that its children are as fresh as processes of their own.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import signal
import sys
import time
from typing import Any, NoReturn

from rlhf import environment

environment.prepare()

import rlhf.ppo.trainer  # noqa: F401 (what every child would import)
from rlhf.cli import main

ACTIONS = ("count", "kill", "tear", "full", "fsync", "readonly", "clock")


def child(request: dict[str, Any], rank: int) -> NoReturn:
    """Become the command, with its output in files and its fault armed."""
    os.setsid()
    os.chdir(request["folder"])
    os.environ.update(request["environment"])
    random.seed()
    if request["processes"] > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    for descriptor, name in ((1, "out"), (2, "err")):
        file = os.open(f"{request['log']}.{rank}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, descriptor)
    if request["at"] is not None and rank == request["rank"]:
        ctypes.CDLL("").faults_arm(
            request["folder"].encode(),
            ctypes.c_long(request["at"]),
            ACTIONS.index(request["action"]),
            ctypes.c_long(request["seconds"]),
            request["journal"].encode() if request["journal"] else None,
        )
    status = main(request["argv"])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def ranks(request: dict[str, Any]) -> list[int]:
    """Start the processes of one command; their process numbers."""
    children = []
    for rank in range(request["processes"]):
        pid = os.fork()
        if pid == 0:
            child(request, rank)
        children.append(pid)
    return children


def run(request: dict[str, Any]) -> list[int]:
    """Run one command to its end; the wait statuses of its processes, killed ones negative."""
    children = ranks(request)
    if request["kill_after"] is not None:
        killed = children if request["rank"] is None else [children[request["rank"]]]
        wait(killed, request["kill_after"])
        for pid in killed:  # one that has ended is waited for below: its number is not given anew
            os.kill(pid, signal.SIGKILL)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]


def wait(children: list[int], seconds: float) -> None:
    """Wait so long, or until all of them have ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended = [os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) for pid in children]
        if all(ended):
            return
        time.sleep(0.002)


def serve() -> None:
    """Answer requests until the input ends; each runs below a process of its own, as below a launcher."""
    for line in sys.stdin:
        request = json.loads(line)
        answer, into = os.pipe()
        launcher = os.fork()
        if launcher == 0:
            os.write(into, json.dumps(run(request)).encode())
            os._exit(0)
        os.close(into)
        with os.fdopen(answer) as stream:
            print(stream.read(), flush=True)
        os.waitpid(launcher, 0)


if __name__ == "__main__":
    serve()
