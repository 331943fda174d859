"""A run in the place of another: the old one goes once the new one has done an iteration, and comes back if it fails.

What a run writes is moved, anything else in its directory stays. `.replaced` holds a whole old run, `.replacing` one
that is being moved, in either direction, so that a killed process loses neither.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from rlhf.foundation.files import fsync_directory

# What a run and the commands on it leave in its directory; `runs` is a tracker's.
WRITTEN = (
    "metrics.jsonl", "ladder.json", "checkpoints", "samples", "state", "strays", "evaluation", "evaluation.json",
    "human_ladder.json", "blind_verdicts.json", "report.html", "runs", "run.json",
)  # fmt: skip
ASIDE, MOVING = ".replaced", ".replacing"


def set_aside(root: Path) -> None:
    """Move the run in `root` out of the way; only for who holds it."""
    (root / MOVING).mkdir()
    for name in WRITTEN:
        if (root / name).exists():
            (root / name).rename(root / MOVING / name)
    (root / MOVING).rename(root / ASIDE)
    fsync_directory(root)


def bring_back(root: Path) -> None:
    """Put the run that was moved aside back in its place, instead of what was begun there."""
    if (root / ASIDE).exists():
        remove(root)
        (root / ASIDE).rename(root / MOVING)
        _move_back(root)


def settle(root: Path) -> None:
    """Of a run that a killed process was to replace: gone where that one had done an iteration, else back."""
    if (root / MOVING).exists():
        _move_back(root)
    elif (root / "metrics.jsonl").exists():
        forget(root)
    else:
        bring_back(root)


def _move_back(root: Path) -> None:
    for path in (root / MOVING).iterdir():
        path.rename(root / path.name)
    (root / MOVING).rmdir()
    print(f"rlhf: {root} holds the run again that was to be replaced", file=sys.stderr)


def holds_run(root: Path) -> bool:
    """Whether a killed process left a run there that it was to replace."""
    return any((root / name / "run.json").exists() for name in (ASIDE, MOVING))


def forget(root: Path) -> None:
    """The old run goes for good: the new one has something to show."""
    shutil.rmtree(root / ASIDE, ignore_errors=True)


def remove(root: Path) -> None:
    """Remove what a run wrote in `root`."""
    for name in WRITTEN:
        path = root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
