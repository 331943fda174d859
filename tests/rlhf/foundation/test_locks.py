"""Of several that want to write, one does; a lock ends with its holder, and on a file that is gone it is none."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rlhf.foundation.errors import InputError
from rlhf.foundation.files import write_text
from rlhf.foundation.locks import one_writer, sole_writer, take_lock
from rlhf.foundation.model_directory import replacing_directory


def test_a_lock_has_one_holder_and_ends_with_it(tmp_path: Path) -> None:
    held = take_lock(tmp_path)
    assert held is not None
    assert take_lock(tmp_path) is None
    os.close(held)
    again = take_lock(tmp_path)
    assert again is not None
    os.close(again)


def test_the_second_sole_writer_is_refused_at_once_and_the_next_let_in(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with sole_writer(target):
        began = time.monotonic()
        with pytest.raises(InputError, match="in use by another command"), sole_writer(target):
            pytest.fail("two writers at once")
        assert time.monotonic() - began < 1
    with sole_writer(target):
        pass
    assert not list(tmp_path.iterdir())  # no lock file stays


def test_the_refusal_names_the_holder_and_a_dead_one_s_file_holds_nothing(tmp_path: Path) -> None:
    target = tmp_path / "out"
    (tmp_path / ".out.lock").write_text("process 1 on another-machine, since 2020-01-01 00:00:00 UTC\n")  # power loss
    with sole_writer(target):
        mine = f"process {os.getpid()} on {socket.gethostname()}, since {datetime.now(UTC):%F}"
        with pytest.raises(InputError, match=re.escape(mine)), sole_writer(target):
            pytest.fail("two writers at once")


def test_a_disk_without_locks_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(InputError, match="No locks available; expected a disk with file locks"),
        sole_writer(tmp_path / "out"),
    ):
        pytest.fail("went on without a lock")
    with pytest.raises(InputError, match="expected a disk with file locks"):
        write_text(tmp_path / "file", "text")
    with pytest.raises(InputError, match="expected a disk with file locks"), replacing_directory(tmp_path / "model"):
        pytest.fail("went on without a lock")


def test_those_who_wait_are_let_in_one_by_one(tmp_path: Path) -> None:
    """The holder removes the lock file when it ends: a lock on the removed file must not let a second one in."""
    target, inside, most, done = tmp_path / "labels.jsonl", [0], [0], [0]
    guard = threading.Lock()

    def work() -> None:
        with one_writer(target):
            with guard:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            time.sleep(0.02)
            with guard:
                inside[0] -= 1
                done[0] += 1

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
        time.sleep(0.005)
    for thread in threads:
        thread.join(timeout=30)
    assert not any(thread.is_alive() for thread in threads)
    assert (most, done) == ([1], [12])
