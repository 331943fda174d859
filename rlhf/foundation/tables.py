"""Rows that a notebook shows as a table: records in memory, with pandas' frame of them beside."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

if TYPE_CHECKING:
    from pandas import DataFrame

Row = TypeVar("Row", covariant=True)

SHOWN = 10  # rows that a notebook shows
UNITS: Mapping[str, str] = {
    "logprob": "nats, summed over the completion's tokens",
    "reward": "raw units of the reward",
    "gold": "raw units of the gold reward",
    "lead_time": "seconds",
    "kl_per_completion": "nats per completion",
}


class Table(Sequence[Row]):
    """A sequence of records (samples, labels, comparisons, rows of a comparison of rewards); equal to a list of them.

    `frame` has a column a field; `summary` says in a line what they are.
    """

    def __init__(self, rows: Sequence[Row], summary: str = "") -> None:
        self.rows, self.summary = rows, summary or f"{len(rows):,} rows"

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Table[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | Table[Row]:
        return Table(self.rows[index]) if isinstance(index, slice) else self.rows[index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (list, Table)):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{self.summary}>"

    @property
    def frame(self) -> DataFrame:
        """All rows; the units of its columns stand in `.attrs["units"]`."""
        return framed(map(_as_row, self))

    def _repr_html_(self) -> str:
        shown = framed(_as_row(row) for row in self.rows[:SHOWN])
        return f"<p>{html.escape(self.summary)}</p>{shown.to_html(index=False)}"


class Report(dict[str, Any]):
    """What a file says of something made (reward_model.json), as the dictionary that it is; `frame` has a row a number.

    `frame`'s columns: what (the keys on the way, joined by points), value.
    """

    @property
    def frame(self) -> DataFrame:
        """Every plain value below it, a row each."""
        return framed({"what": what, "value": value} for what, value in _leaves("", self))

    def _repr_html_(self) -> str:
        return str(self.frame.to_html(index=False))


def _leaves(above: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from _leaves(f"{above}.{key}" if above else str(key), below)
    elif isinstance(value, list):
        for place, below in enumerate(value):
            yield from _leaves(f"{above}.{place}", below)
    else:
        yield above, value


def framed(rows: Iterable[Mapping[str, Any]], units: Mapping[str, str] = UNITS) -> DataFrame:
    """Rows as a frame; `.attrs["units"]` has the units of those of its columns that have one.

    Whole numbers stay exact where some are missing; a lone surrogate, which pandas cannot hold, stands as its escape.
    """
    from pandas import DataFrame, array

    listed = list(rows)
    try:
        frame = DataFrame(listed)
    except UnicodeEncodeError:
        listed = [{key: _encodable(value) for key, value in row.items()} for row in listed]
        frame = DataFrame(listed)
    for column in frame.columns[frame.dtypes == "float64"]:
        values = [row.get(column) for row in listed]
        if all(value is None or type(value) is int for value in values):
            frame[column] = array(values, dtype="Int64")
    frame.attrs["units"] = {column: units[column] for column in frame.columns if column in units}
    return frame


def _encodable(value: Any) -> Any:
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def _as_row(record: Any) -> Mapping[str, Any]:
    """A record's fields; of one that says itself how it stands in a table, what it says."""
    said = getattr(record, "as_dict", None)
    return said() if said else dataclasses.asdict(record)
