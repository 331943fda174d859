"""Processes that never come: the others say who is missing and end, long before torch's half hour."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = "from rlhf.ppo.arrival import await_all; await_all({patience}); print('all here')"


def started(rank: int, port: int, code: str, **further: str) -> subprocess.Popen[str]:
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "RANK": str(rank), **further}
    words = [sys.executable, "-c", code]
    return subprocess.Popen(
        words, env={**os.environ, **place}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_all_that_come_go_on() -> None:
    port = free_port()
    both = [started(rank, port, PROGRAM.format(patience=60)) for rank in (0, 1)]
    assert [one.communicate(timeout=120)[0] for one in both] == ["all here\n"] * 2


@pytest.mark.parametrize(("there", "missing"), [(0, 1), (1, 0)])
def test_one_that_does_not_come_is_named(there: int, missing: int) -> None:
    began = time.monotonic()
    alone = started(there, free_port(), PROGRAM.format(patience=1))
    _, errors = alone.communicate(timeout=120)
    assert f"a process of this run: got no sign of rank {missing} in " in errors.splitlines()[-1]
    assert time.monotonic() - began < 60


def test_the_command_ends_with_one_line(model_directory: Path, tmp_path: Path) -> None:
    port = free_port()
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}
    words = ["--reward_func", "full_stop", "--straggler_timeout", "1", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "rlhf.ppo", "--model_name_or_path", str(model_directory), *words, "--output_dir", "run"],
        cwd=tmp_path, env={**os.environ, **place, "ACCELERATE_USE_CPU": "true", "PYTHONPATH": os.getcwd()},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("rlhf: a process of this run: got no sign of rank 1 in ")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("ends", [0, 1])
def test_one_that_ends_between_the_roll_call_and_the_meeting_is_named(ends: int, tmp_path: Path) -> None:
    port, began = free_port(), time.monotonic()
    stays = "from rlhf.ppo.distributed import start; start(use_cpu=True, straggler_timeout=1)"
    goes = f"{PROGRAM.format(patience=60)}; import os; os._exit(9)"
    place = {"TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}  # of a launcher's processes the first one tells
    both = [started(rank, port, goes if rank == ends else stays, **place) for rank in (0, 1)]
    _, errors = both[1 - ends].communicate(timeout=120)
    assert both[1 - ends].returncode in (1, 2), errors  # torch may notice it first
    assert "a process of this run: got " in errors or "accelerate launch: got " in errors, errors
    assert time.monotonic() - began < 90
