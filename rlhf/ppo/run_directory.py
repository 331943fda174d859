"""The run directory: who may write it, what it records, and how an interrupted one is cut back to its last state."""

from __future__ import annotations

import fcntl
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import torch

from rlhf.foundation.errors import InputError
from rlhf.foundation.files import append_jsonl, read_json, write_failure, write_json, write_text
from rlhf.foundation.records import now

# Options that may differ when a run is continued.
FREE_ON_RESUME = {"resume", "quiet", "output_dir", "max_iterations", "kl_budget", "use_cpu", "report_to"}
LIBRARIES = ("torch", "transformers", "trl", "accelerate", "peft", "numpy", "safetensors")


class RunDirectory:
    """Paths and records of one run; only the main process writes."""

    def __init__(self, output_dir: str) -> None:
        self.root = Path(output_dir)
        self.record: dict[str, Any] = {}
        self._lock: IO[str] | None = None

    @property
    def run_json(self) -> Path:
        """Command, configuration, seed, versions, hardware, outcome."""
        return self.root / "run.json"

    @property
    def metrics(self) -> Path:
        """One line an iteration."""
        return self.root / "metrics.jsonl"

    @property
    def ladder(self) -> Path:
        """The rungs."""
        return self.root / "ladder.json"

    @property
    def state(self) -> Path:
        """What resuming needs."""
        return self.root / "state"

    def open(self, *, resume: bool) -> None:
        """Claim the directory. Raises InputError when it is not empty (without `resume`) or another run holds it."""
        entries = [p for p in self.root.iterdir() if p.name != ".lock"] if self.root.is_dir() else []
        if self.root.exists() and not self.root.is_dir():
            raise InputError(
                "--output_dir", got=f"{self.root}, a file", expected="a directory", fix="choose another one"
            )
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = (self.root / ".lock").open("w")
        except OSError as error:
            raise write_failure(self.root, error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise InputError(
                "--output_dir",
                got=f"{self.root}, in use by another run",
                expected="a directory of this run alone",
                fix="wait for that run, or choose another directory",
            ) from None
        if entries and not resume:
            lock.close()
            raise InputError(
                "--output_dir",
                got=f"{self.root}, not empty",
                expected="a new or empty directory",
                fix="give --resume to continue the run in it, or choose another directory",
            )
        if entries and not self.run_json.exists() and not self.state.exists():
            lock.close()
            raise InputError(
                "--output_dir",
                got=f"{self.root}, files that are no run",
                expected="the directory of a run",
                fix="choose another directory",
            )
        self._lock = lock

    def close(self) -> None:
        """Give the directory free."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def check(self, resolved: dict[str, Any]) -> None:
        """Raise InputError when the directory's run has other options; what may differ is FREE_ON_RESUME."""
        if self.run_json.exists():
            self._require_same(read_json(self.run_json).get("resolved", {}), resolved)

    def begin(self, resolved: dict[str, Any], given: dict[str, Any], facts: dict[str, Any]) -> None:
        """Write run.json; of a run that is resumed what it found out stays."""
        if self.run_json.exists():
            self.record = read_json(self.run_json)
            facts = {**facts, "normalization": self.record.get("normalization")}
        else:
            self.record = {"created_at": now()}
        self.record |= {
            "command": sys.argv,
            "config": given,
            "resolved": resolved,
            "seed": resolved["seed"],
            "versions": versions(),
            "git_revision": git_revision(),
            "hardware": hardware(),
            "status": "running",
            "stop_reason": None,
            **facts,
        }
        self.write()

    def _require_same(self, then: dict[str, Any], today: dict[str, Any]) -> None:
        changed = [k for k in today if k in then and k not in FREE_ON_RESUME and then[k] != today[k]]
        if changed:
            key = changed[0]
            raise InputError(
                f"--{key}",
                got=f"{today[key]} with --resume",
                expected=f"{then[key]}, as the run began",
                fix="give the run's own options, or begin another run",
            )

    def write(self, **facts: Any) -> None:
        """Update run.json."""
        self.record |= facts
        write_json(self.run_json, self.record)

    def append_metrics(self, line: dict[str, Any]) -> None:
        """Append one iteration."""
        append_jsonl(self.metrics, line)

    def cut_metrics(self, iterations: int) -> None:
        """Keep the first `iterations` whole lines: what came after the last state is repeated."""
        if self.metrics.exists():
            lines = self.metrics.read_text(encoding="utf-8").split("\n")[:iterations]
            write_text(self.metrics, "".join(line + "\n" for line in lines))


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide a run's numbers."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in LIBRARIES}}


def git_revision() -> str | None:
    """The revision of the directory the command ran in, or None outside a checkout."""
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    return done.stdout.strip() or None


def hardware() -> dict[str, Any]:
    """Processor, cores, threads and accelerator."""
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpu": gpu,
    }
