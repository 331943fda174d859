"""One writer at a time: advisory locks that end with their process, however it ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rlhf.foundation.errors import InputError, write_failure


def take_lock(path: Path, *, wait: bool = False) -> int | None:
    """Lock an existing file or directory: the descriptor that holds it.

    None when a living process holds it, unless told to `wait` for that one.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


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
def sole_writer(directory: str | Path) -> Iterator[None]:
    """Hold an output directory, which need not exist yet, for one command: by the file .NAME.lock beside it.

    Raises InputError at once when another command holds it, or when the place cannot be written.
    """
    target = Path(os.path.abspath(directory))
    path = target.parent / f".{target.name}.lock"
    with made_for(target.parent, writing=target):
        try:
            descriptor = _take_new(path)
        except OSError as error:
            raise write_failure(path, error) from error
        if descriptor is None:
            raise InputError(
                "--output_dir",
                got=f"{directory}, in use by another command",
                expected="a directory of this command alone",
                fix="wait for that command, or choose another directory",
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
        try:
            descriptor = _take_new(lock, wait=True)
        except OSError as error:
            raise write_failure(path, error) from error
        assert descriptor is not None  # it waited
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
            os.close(descriptor)


def _take_new(path: Path, *, wait: bool = False) -> int | None:
    """`take_lock` on a file that its last holder may be removing at this moment."""
    while True:
        path.touch()
        try:
            descriptor = take_lock(path, wait=wait)
            if descriptor is None or os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except FileNotFoundError:
            continue
        os.close(descriptor)
