"""Samples, labels and comparisons as a step is given them: by the path of a file, or in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rlhf.foundation.errors import InputError
from rlhf.foundation.files import Advance
from rlhf.foundation.held import place_of
from rlhf.foundation.records import (
    Comparison,
    Label,
    Sample,
    distinct,
    lazy_records,
    lazy_samples,
    read_samples,
)

Record = TypeVar("Record", Sample, Label, Comparison)
Samples = str | Sequence[Sample]
Labels = str | Sequence[Label]
Comparisons = str | Sequence[Comparison]


def samples_of(given: Samples) -> Sequence[Sample]:
    """The samples of a file or in memory. Raises InputError on a bad row, none at all, or one uid used twice."""
    return read_samples(Path(given)) if isinstance(given, str) else distinct(place_of(given), _rows(Sample, given))


def watched_samples(
    given: Samples, advance: Advance | None = None, watch: Callable[[Sample], object] = lambda sample: None
) -> Sequence[Sample]:
    """`samples_of`, each shown to `watch` once; of a file each is read again when it is asked for."""
    if isinstance(given, str):
        return lazy_samples(Path(given), advance, watch)
    samples = samples_of(given)
    for sample in samples:
        watch(sample)
    return samples


def records_of(
    kind: type[Record],
    given: str | Sequence[Record],
    advance: Advance | None = None,
    watch: Callable[[Record], object] = lambda record: None,
) -> Sequence[Record]:
    """The records of a file or in memory, each shown to `watch` once; of a file each is read again when asked for.

    Raises InputError on a bad row, or none at all.
    """
    if isinstance(given, str):
        return lazy_records(kind, Path(given), advance, watch)
    for record in _rows(kind, given):
        watch(record)
    return given


def _rows(kind: type[Record], given: Sequence[Any]) -> Sequence[Record]:
    if not given:
        raise InputError(f"{kind.__name__.lower()}s", got="none", expected="at least one", fix="give some")
    for number, row in enumerate(given, start=1):
        if not isinstance(row, kind):
            raise InputError(
                f"{kind.__name__.lower()}s in memory, item {number}",
                got=f"a {type(row).__name__}",
                expected=f"a {kind.__name__}",
                fix=f"make it one: {kind.__module__}.{kind.__name__}, or give the path of a file",
            )
    return given
