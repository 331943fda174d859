"""Progress bars that never stand before a refusal: quick failures show none, and later ones take theirs away.

Bars over files tell the time that is left and leave nothing on the terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from rlhf.foundation.files import Advance

Row = TypeVar("Row")

DELAY = 0.5  # seconds; what is refused is mostly refused sooner


@contextmanager
def progress_bar(
    desc: str, unit: str, *, total: int | None = None, initial: int = 0, quiet: bool = False
) -> Iterator[Any]:
    """tqdm's bar on stderr from the first half second on; when the work fails it is cleared before the one line."""
    with tqdm(desc=desc, unit=unit, total=total, initial=initial, delay=DELAY, disable=quiet) as bar:
        try:
            yield bar
        except BaseException:
            bar.leave = False
            raise


@contextmanager
def reading(path: str | Path, *, quiet: bool, times: int = 1) -> Iterator[Advance]:
    """A bar over the bytes of a file that is read so many `times`; yields what is told how many were read."""
    total = Path(path).stat().st_size * times if Path(path).is_file() else None
    with tqdm(
        total=total, desc="read", unit="B", unit_scale=True, delay=DELAY, leave=False, mininterval=0.5, disable=quiet
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
        delay=DELAY,
        leave=False,
        mininterval=0.5,
        disable=quiet,
    )
    return bar
