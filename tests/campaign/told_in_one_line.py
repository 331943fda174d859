"""One command in this process, and everything it did: exit status, both streams, and what changed on the disk.

`refused` is the contract of bad input: exit 2, exactly one line on standard error with what was got and what was
expected, nothing from anybody else before it, and not a byte written. `works` is its opposite.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rlhf.cli import main

Snapshot = dict[str, bytes | str]
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f\x80-\x9f\u202a-\u202e\u2066-\u2069]")


def snapshot(folder: Path) -> Snapshot:
    """Every name below `folder`: the bytes of files (of big ones their number and time of writing), links, kinds.

    Of a lock file only that it is there: it says who held it last.
    """
    found: Snapshot = {}
    for root, directories, files in os.walk(folder):
        for name in [*directories, *files]:
            path = Path(root, name)
            place = str(path.relative_to(folder))
            if path.is_symlink():
                found[place] = f"link to {os.readlink(path)}"
            elif name == ".lock":
                found[place] = "lock"
            elif path.is_file():
                kept = path.stat()
                big = f"{kept.st_size} bytes of {kept.st_mtime_ns}, file {kept.st_ino}"
                found[place] = path.read_bytes() if kept.st_size < 4096 else big
            else:
                found[place] = "folder" if path.is_dir() else "special"
    return found


@contextmanager
def as_a_program_would(stream: Any) -> Iterator[None]:
    """Warnings and logs of every library go to `stream`, as they do outside pytest."""
    loggers = [logging.getLogger(), *map(logging.getLogger, list(logging.root.manager.loggerDict))]
    for logger in loggers:
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.stream = stream  # not setStream(): it flushes the old one, which may be closed
    with warnings.catch_warnings():
        warnings.resetwarnings()
        for quiet in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", quiet)
        warnings.showwarning = lambda message, kind, *rest: print(f"{kind.__name__}: {message}", file=stream)
        yield


@dataclass(frozen=True)
class Outcome:
    """What one command did; `changed` lists the paths that are new, gone or other."""

    words: tuple[str, ...]
    status: int
    out: str
    err: str
    changed: tuple[str, ...]

    def __str__(self) -> str:
        told = " ".join(word if len(word) < 80 else word[:77] + "..." for word in self.words)
        streams = f"--- out\n{self.out[-800:]}\n--- err\n{self.err[-3000:]}"
        return f"{told}\nexit {self.status}\nchanged: {self.changed}\n{streams}"

    @property
    def fault(self) -> str:
        """Why this is no refusal in one line; "" where it is one."""
        lines = self.err.split("\n")
        if self.status != 2:
            return f"exit {self.status}"
        if len(lines) != 2 or lines[1]:
            return "not exactly one line on standard error"
        if not lines[0].startswith("rlhf: ") or "got " not in lines[0] or "; expected " not in lines[0]:
            return "a line of another form"
        if CONTROL.search(self.err + self.out.replace("\n", "")):
            return "control characters"
        if len(lines[0]) > 3000:
            return f"a line of {len(lines[0])} characters"
        return f"written: {self.changed}" if self.changed else ""


LONGEST = 120  # seconds that any command may take here, on a busy machine


class TooLong(BaseException):
    """No Exception, which a command might take for something else."""


def _within(seconds: float, arguments: Sequence[str]) -> int:
    def stop(*_: object) -> None:
        raise TooLong(arguments)

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return main(arguments)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Place:
    """A working directory with copies of good material, made anew whenever a command changed it."""

    def __init__(self, folder: Path, material: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder, self.material, self.capture = folder, material, capture
        self.tried = 0

    def fill(self) -> None:
        """Begin with the good material alone."""
        self.folder.mkdir(exist_ok=True)  # kept where it stands: it is the working directory
        for path in self.folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        shutil.copytree(self.material, self.folder, symlinks=True, dirs_exist_ok=True)

    def run(self, *words: object) -> Outcome:
        """Run a command here."""
        arguments = tuple(map(str, words))
        before = snapshot(self.folder)
        self.capture.readouterr()
        with as_a_program_would(sys.stderr):
            status = _within(LONGEST, arguments)
        out, err = self.capture.readouterr()
        after = snapshot(self.folder)
        changed = tuple(sorted(p for p in before.keys() | after.keys() if before.get(p) != after.get(p)))
        self.tried += 1
        return Outcome(arguments, status, out, err, changed)

    def refused(self, *words: object, says: Sequence[str] | str = ()) -> str:
        """The one line of a command that must be refused; each of `says` stands in it."""
        outcome = self.run(*words)
        assert not outcome.fault, f"{outcome.fault}\n{outcome}"
        for part in [says] if isinstance(says, str) else says:
            assert part in outcome.err, f"no {part!r}\n{outcome}"
        return outcome.err

    def works(self, *words: object) -> Outcome:
        """A command that must do its work."""
        outcome = self.run(*words)
        assert outcome.status == 0, str(outcome)
        assert "Traceback" not in outcome.err, str(outcome)
        return outcome

    def refused_or_works(self, *words: object) -> Outcome:
        """Either is right, nothing between them is."""
        outcome = self.run(*words)
        begun = "new/run.json" in outcome.changed  # a run that diverges keeps what it has
        assert outcome.status == 0 or not outcome.fault or (begun and outcome.fault.startswith("written")), str(outcome)
        assert "Traceback" not in outcome.err, str(outcome)
        return outcome
