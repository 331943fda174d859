"""Bars over long files, with the time that is left: on stderr, after half a second, gone when the work is done.

A bar that is closed leaves nothing on the terminal, so that an error's line stands alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from rlhf.foundation.files import Advance

Row = TypeVar("Row")


@contextmanager
def reading(path: str | Path, *, quiet: bool, times: int = 1) -> Iterator[Advance]:
    """A bar over the bytes of a file that is read so many `times`; yields what is told how many were read."""
    total = Path(path).stat().st_size * times if Path(path).is_file() else None
    with tqdm(
        total=total, desc="read", unit="B", unit_scale=True, delay=0.5, leave=False, mininterval=0.5, disable=quiet
    ) as bar:
        yield bar.update


def counted(rows: Iterable[Row], total: int, desc: str, *, quiet: bool) -> Iterable[Row]:
    """The rows, with a bar over their number."""
    bar: Iterable[Row] = tqdm(
        rows,
        total=total,
        desc=desc,
        unit="row",
        unit_scale=True,
        delay=0.5,
        leave=False,
        mininterval=0.5,
        disable=quiet,
    )
    return bar
