"""What a killed writer leaves behind, found at the next start: temporaries go, a directory moved aside comes back.

Writers name their temporaries `.NAME.XXXXXXXX.tmp` and what they replace `.NAME.XXXXXXXX.old/NAME`, and hold a lock on
them while they live. Whatever is done here is told on stderr.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

from rlhf.foundation.locks import take_lock

PATTERN = re.compile(r"\.(?P<name>.+)\.[a-z0-9_]{8}\.(?P<kind>tmp|old)")


def leftover_of(path: Path) -> str | None:
    """The name of the file or directory whose writer made this temporary; None where it is no temporary of ours."""
    found = PATTERN.fullmatch(path.name)
    return found["name"] if found else None


def sweep(directory: Path, name: str | None = None) -> None:
    """Clear `directory` of what killed writers left there, of the file or directory `name` alone if it is given.

    A directory that stands only in its hidden `.old` is put back; other leftovers are removed; those of living
    writers stay.
    """
    if not directory.is_dir():
        return
    found = [path for path in sorted(directory.iterdir()) if leftover_of(path) and name in (None, leftover_of(path))]
    for path in sorted(found, key=lambda path: path.suffix):  # .old before .tmp
        try:
            _clear(path)
        except FileNotFoundError:  # another process did it
            continue
        except OSError as error:  # someone else's, or a read-only place: a reader can do without
            print(f"rlhf: {path} was left by a killed writer and stays ({error.strerror})", file=sys.stderr)


def _clear(path: Path) -> None:
    descriptor = take_lock(path)
    if descriptor is None:
        return
    try:
        target = path.parent / str(leftover_of(path))
        if path.suffix == ".old" and (path / target.name).exists() and not target.exists():
            (path / target.name).rename(target)
            path.rmdir()
            print(f"rlhf: put {target} back, which a killed writer had moved aside", file=sys.stderr)
            return
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        print(f"rlhf: removed {path}, left by a writer that was killed", file=sys.stderr)
    finally:
        os.close(descriptor)
