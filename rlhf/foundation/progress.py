"""Progress bars that never stand before a refusal: quick failures show none, and later ones take theirs away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

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
