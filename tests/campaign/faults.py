"""Commands run against a failing machine: killed before an operation, on a full disk, on one that fails to flush.

`Commands` runs `rlhf` commands in children of one process (forking.py) below faults.c. Where no C compiler is at hand
the tests are skipped with a count, or fail under RLHF_REQUIRE_REAL=1.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
COMPILER = shutil.which("cc") or shutil.which("gcc")


@dataclass(frozen=True)
class Outcome:
    """How a command ended: the exit status of each process (-9: killed) and what they said."""

    statuses: list[int]
    errors: str
    output: str

    @property
    def status(self) -> int:
        """Of the first process."""
        return self.statuses[0]


@dataclass(frozen=True)
class Operation:
    """One thing that a command did to a file, `path` below its folder."""

    number: int
    name: str
    path: str


@dataclass
class Commands:
    """Runs commands; `run` returns when all their processes have ended."""

    process: subprocess.Popen[str]
    scratch: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(
        self,
        folder: Path,
        *argv: object,
        at: int | None = None,
        action: str = "count",
        seconds: int = 0,
        journal: Path | None = None,
        processes: int = 1,
        rank: int | None = 0,
        kill_after: float | None = None,
    ) -> Outcome:
        """Run `rlhf *argv` in `folder`.

        At its `at`th operation below the folder (of process `rank`) happens `action`: kill, tear (half a write, then
        dead), full (no space from there on), fsync (the next flush fails), readonly, clock (`seconds` forward).
        `kill_after` seconds from the start the process `rank` (None: all of them) is killed, wherever it is.
        """
        log = self.scratch / "log"
        launched = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1"}
        launched |= {"MASTER_PORT": str(free_port()), "ACCELERATE_USE_CPU": "true"}
        request = {
            "folder": str(folder),
            "argv": [str(word) for word in argv],
            "environment": self.environment | (launched if processes > 1 else {}),
            "log": str(log),
            "at": at,
            "action": action,
            "seconds": seconds,
            "journal": str(journal) if journal else None,
            "processes": processes,
            "rank": rank,
            "kill_after": kill_after,
        }
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(request), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        assert answer, "the process that forks has ended"
        told = ["".join(Path(f"{log}.{n}.{kind}").read_text() for n in range(processes)) for kind in ("err", "out")]
        return Outcome(json.loads(answer), *told)

    def operations(self, folder: Path, *argv: object) -> list[Operation]:
        """Run a command to its end; everything it did to files below `folder`, in order."""
        journal = self.scratch / "journal"
        journal.unlink(missing_ok=True)
        outcome = self.run(folder, *argv, at=0, journal=journal)
        assert outcome.status == 0, outcome.errors
        rows = (line.split("\t") for line in journal.read_text().splitlines())
        return [Operation(int(number), name, path) for number, name, path in rows]


@contextmanager
def commands(scratch: Path) -> Iterator[Commands]:
    """A `Commands` whose files are in `scratch`. Needs a C compiler."""
    library = scratch / "faults.so"
    subprocess.run(
        [str(COMPILER), "-shared", "-fPIC", "-O2", "-o", str(library), str(HERE / "faults.c"), "-ldl"], check=True
    )
    environment = {**os.environ, "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(
        [sys.executable, str(HERE / "forking.py")],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Commands(process, scratch)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(timeout=60)


def free_port() -> int:
    """A port of this machine that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# Of run.json and the like: when, where and on what it was made, which no two runs share.
VOLATILE = {"created_at", "updated_at", "at", "hardware", "command", "seconds", "resume", "git_revision", "versions"}
VOLATILE |= {"absolute", "tokens_per_second", "packet"}  # a path's place, a speed, a page's random name
VOLATILE |= {"sessions", "content_sha256", "metrics.jsonl"}  # and the digests of what holds times
PACKET = re.compile(rb'"packet": "[^"]*"')


def contents(folder: Path) -> dict[str, Any]:
    """Every file below `folder` by its path: bytes, or for JSON the value without `VOLATILE` keys and times.

    Left out: what an interrupted run moved to strays/ (more than an uninterrupted one has, and told), and empty lock
    files, whose lock ends with its process.
    """
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not path.is_file() or path.name.endswith(".lock") or "strays" in path.parts:
            continue
        try:
            if path.suffix == ".json":
                found[name] = steady(json.loads(path.read_text()))
            elif path.suffix == ".jsonl":
                found[name] = [steady(json.loads(line)) for line in path.read_text().splitlines()]
            elif path.name == "report.html":  # it tells when its run was made, and how fast
                found[name] = path.read_bytes().rstrip().endswith(b"</html>")
            else:
                found[name] = PACKET.sub(b"", path.read_bytes())
        except ValueError:
            found[name] = path.read_bytes()
    return found


def shapes(found: dict[str, Any]) -> dict[str, Any]:
    """Of `contents`: how many rows each file of lines has, and which keys each object; for a deed with random ids."""
    return {
        name: len(value) if isinstance(value, list) else sorted(value) if isinstance(value, dict) else None
        for name, value in found.items()
    }


def steady(value: Any) -> Any:
    """A JSON value without what differs between two runs of the same thing."""
    if isinstance(value, dict):
        return {k: steady(v) for k, v in value.items() if k not in VOLATILE and not k.startswith("seconds")}
    return [steady(item) for item in value] if isinstance(value, list) else value


def used(folder: Path) -> int:
    """Bytes of the files below a directory, in whole pages, as a file system in memory counts them."""
    page = os.sysconf("SC_PAGE_SIZE")
    return sum(-(-path.stat().st_size // page) * page for path in folder.rglob("*") if path.is_file())


def differences(whole: dict[str, Any], cut: dict[str, Any]) -> list[str]:
    """Names of what is not the same in two `contents`; hidden leftovers of writers among them."""
    missing = [f"{name} is missing" for name in sorted(whole.keys() - cut.keys())]
    more = [f"{name} is left over" for name in sorted(cut.keys() - whole.keys())]
    return (
        missing + more + [f"{name} differs" for name in sorted(whole.keys() & cut.keys()) if whole[name] != cut[name]]
    )


def evenly(items: Sequence[Any], count: int) -> list[Any]:
    """`count` of the items from first to last, or all where there are fewer."""
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]
