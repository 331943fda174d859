"""One writer at a time: advisory locks that end with their process, however it ends."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from rlhf.foundation.errors import InputError, write_failure
from rlhf.foundation.terminal import shown


def take_lock(path: Path, *, wait: bool = False) -> int | None:
    """Lock an existing file or directory: the descriptor that holds it.

    None when a living process holds it, unless told to `wait` for that one. Raises OSError, also on a disk that has no
    locks (some network file systems): nobody there could be sure to be alone.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def lock_file(path: Path, *, wait: bool = False) -> int | None:
    """`take_lock` on a file that is made if need be and says who holds it (`holder`).

    Raises InputError when the place cannot be written or locked.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _take_new(path, wait=wait)
        if descriptor is not None:
            path.write_text(f"process {os.getpid()} on {socket.gethostname()}, since {datetime.now(UTC):%F %T} UTC\n")
        return descriptor
    except OSError as error:
        raise write_failure(path, error) from error


def holder(path: Path) -> str:
    """Who holds a lock file, as it says itself: the process may be one of another machine on a shared disk."""
    try:
        return shown(path.read_text(errors="replace").strip(), 200) or "a process that has just begun"
    except OSError:
        return "a process that has just ended"


@contextmanager
def made_for(directory: Path, *, lock: str = "", writing: Path | None = None) -> Iterator[None]:
    """Make a directory with its parents; if the work inside fails, those made that hold nothing go again.

    `lock` names a lock file in the directory that counts as nothing; `writing` is what is to be written. Raises
    InputError when the place refuses.
    """
    made = [path for path in (directory, *directory.parents) if not path.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_failure(writing or directory, error) from error
    try:
        yield
    except BaseException:
        with suppress(OSError):  # not empty
            if made and lock and [path.name for path in directory.iterdir()] == [lock]:
                (directory / lock).unlink()
            for path in made:
                path.rmdir()
        raise


@contextmanager
def sole_writer(output: str | Path | None, option: str = "--output_dir") -> Iterator[None]:
    """Hold an output file or directory, which need not exist yet, for one command: by the file .NAME.lock beside it.

    `option` is what named it; None is what stays in memory. Raises InputError at once when another command holds it,
    or the place cannot be written.
    """
    if output is None:
        yield
        return
    target = Path(os.path.abspath(output))
    path = target.parent / f".{target.name}.lock"
    with made_for(target.parent, writing=target):
        descriptor = lock_file(path)
        if descriptor is None:
            raise InputError(
                option,
                got=f"{output}, in use by another command ({holder(path)})",
                expected="an output of this command alone",
                fix="wait for that command, or choose another place",
            )
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            os.close(descriptor)


@contextmanager
def one_writer(path: Path) -> Iterator[None]:
    """Wait until no other process changes a file, and hold it: for whoever reads it, adds to it and writes it.

    The lock is the file .NAME.lock beside it. Raises InputError when the place cannot be written.
    """
    lock = path.parent / f".{path.name}.lock"
    with made_for(path.parent, writing=path):
        descriptor = lock_file(lock, wait=True)
        assert descriptor is not None  # it waited
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
            os.close(descriptor)


def _take_new(path: Path, *, wait: bool = False) -> int | None:
    """`take_lock` on a file that its last holder may be removing at this moment: a lock on what is gone is given up."""
    while True:
        path.touch()
        try:
            descriptor = take_lock(path, wait=wait)
        except FileNotFoundError:
            continue
        if descriptor is None or _is_open_as(path, descriptor):
            return descriptor
        os.close(descriptor)


def _is_open_as(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
