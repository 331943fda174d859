"""Tables of labels: CSV, TSV, JSON lines, JSON lists of rows, and among them Label Studio's own CSV, TSV and JSON-MIN.

A row becomes a task with at most one annotation, so that everything after it is read the same way as a full export.
"""

from __future__ import annotations

import csv
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from labeling.annotations import Item
from rlhf.foundation import long_texts
from rlhf.foundation.conversation import prompt_from_text
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import Advance, iter_jsonl, text_lines

STUDIO = {"annotation_id", "annotator", "lead_time", "updated_at"}
"""Columns by which a table of Label Studio's is known."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of a table's columns; in an export of Label Studio, `text` is the data field and `label` the control.

    `first` holds what a rater said before a reward model's reasons were shown; a table need not have it.
    """

    text: str
    label: str
    prompt: str = ""
    annotator: str = ""
    first: str = "first"


class Row(NamedTuple):
    """One row and where it stands."""

    place: str
    cells: Mapping[str, Any]


def read_rows(path: Path, advance: Advance | None = None) -> Iterator[Row]:
    """Rows of a .csv, .tsv, .jsonl or .ndjson file, at least one, one after another.

    Raises InputError naming the line.
    """
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        lines = iter_jsonl(path, advance)
        rows: Iterator[Row] = (Row(f"{path}, record {i}", line.row) for i, line in enumerate(lines, start=1))
    elif suffix in (".csv", ".tsv"):
        rows = _read_csv(path, "\t" if suffix == ".tsv" else ",", advance)
    else:
        raise InputError(
            str(path),
            got=f"a file name ending in '{path.suffix}'",
            expected=".csv, .tsv, .jsonl, or .json for a Label Studio export",
            fix="rename or convert the file",
        )
    first = next(rows, None)
    if first is None:
        raise InputError(str(path), got="no rows", expected="at least one row", fix="check the file")
    return itertools.chain([first], rows)


def _read_csv(path: Path, delimiter: str, advance: Advance | None) -> Iterator[Row]:
    """A row is refused, never cut, padded or swallowed: strict quotes, as many cells as the header has."""
    csv.field_size_limit(long_texts.LONGEST)
    reader = csv.reader(_csv_lines(path, advance), delimiter=delimiter, strict=True)
    header: list[str] = []
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            if "field limit" in str(error):
                raise long_texts.too_long(f"{path}, line {line}", long_texts.LONGEST, at_least=True) from None
            fix = "close the quote; a quote inside a quoted cell is written twice"
            raise _refused(path, line, f"a broken quote ({error})", "quotes that open and close", fix) from None
        if cells is None:
            return
        if not header:
            header = cells
            twice = [name for name, n in Counter(header).items() if n > 1 and name]
            if twice:
                raise _refused(path, line, f"the column {twice[0]!r} twice", "each column once", "rename one of them")
        elif len(cells) not in (0, len(header)):
            fix = f"mend the row; a cell that holds {delimiter!r} or a line end needs quotes"
            raise _refused(path, line, f"{len(cells)} cells", f"{len(header)}, as in the header", fix)
        elif cells:
            yield Row(f"{path}, line {line}", dict(zip(header, cells, strict=True)))


def _csv_lines(path: Path, advance: Advance | None) -> Iterator[str]:
    """Lines of text for csv, each ending in "\\n" if it ends. Raises InputError for a NUL, and what is not UTF-8."""
    for number, _, text in text_lines(path, advance):
        if "\0" in text:
            raise _refused(path, number, "a NUL character", "text", "save the table again as UTF-8")
        yield text if "\r" not in text else text.rstrip("\r\n") + "\n"


def _refused(path: Path, line: int, got: str, expected: str, fix: str) -> InputError:
    return InputError(f"{path}, line {line}", got=got, expected=expected, fix=fix)


def need(cells: Mapping[str, Any], names: Sequence[str], place: str) -> None:
    """Raise InputError when a named column (or data field) is missing."""
    missing = [name for name in names if name and name not in cells]
    if missing:
        raise InputError(
            place,
            got=f"no column {', '.join(missing)}",
            expected=f"one of {', '.join(str(name) for name in cells)}",
            fix="name the columns with --text, --label, --prompt and --annotator_column",
        )


def is_studio(cells: Mapping[str, Any]) -> bool:
    """Whether Label Studio wrote a table with such a first row."""
    return bool(cells.keys() >= STUDIO)


def annotator_of(cells: Mapping[str, Any], column: str, *, studio: bool) -> Any:
    """Who made a row, as `completed_by` of a full export; None where the table names nobody."""
    value = cells.get(column or ("annotator" if studio else ""))
    if not studio:
        return None if value is None or not str(value).strip() else str(value)
    if value in ("", "None", None):  # how its tables write nobody
        return None
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


def as_items(
    rows: Iterable[Row], columns: Columns, fields: Sequence[str], counts: Counter[str], *, same_columns: bool
) -> Iterator[Item]:
    """Rows as items of an export, one after another; how many of an ordinary table hold no label is added to `counts`.

    `fields` are the data columns that every row must have; with `same_columns` all rows have those of the first.
    Raises InputError, also when no row has a label's column.
    """
    first: Row | None = None
    studio = labelled = False
    for row in rows:
        if first is None:
            first, studio = row, is_studio(row.cells)
        labelled = labelled or columns.label in row.cells
        if not labelled and (same_columns or any(name not in row.cells for name in fields)):
            need(row.cells, [*fields, columns.label], row.place)
        need(row.cells, [*fields, columns.annotator], row.place)
        values = list(_values(row.cells.get(columns.label), studio))
        if studio and row.cells.get("annotation_id") in ("", None):  # a task that nobody has annotated
            continue
        if not values and not studio:
            counts["no label"] += 1
            continue
        annotation = {
            "id": row.cells.get("annotation_id"),
            "completed_by": annotator_of(row.cells, columns.annotator, studio=studio),
            "before": None if studio else row.cells.get(columns.first),
            "result": [{"from_name": columns.label, "value": value} for value in values],
            **{name: row.cells.get(name) for name in ("created_at", "updated_at", "lead_time")},
        }
        yield Item(row.place, _decoded(row.cells) if studio else row.cells, [annotation])
    if first is not None and not labelled:
        need(first.cells, [*fields, columns.label], first.place)


def _decoded(cells: Mapping[str, Any]) -> Mapping[str, Any]:
    """Label Studio writes a data field that is a conversation into CSV as JSON."""
    return {
        name: prompt_from_text(cell) if isinstance(cell, str) and cell.startswith("[{") else cell
        for name, cell in cells.items()
    }


def _values(cell: Any, studio: bool) -> Iterator[Mapping[str, Any]]:
    """The `value` of each result that a cell stands for; Label Studio writes all but single choices as JSON."""
    if isinstance(cell, Mapping):
        yield cell
    elif isinstance(cell, list):
        for one in cell:
            yield from _values(one, studio)
    elif isinstance(cell, str) and studio and cell[:2] in ("[{", '["', '{"'):
        try:
            yield from _values(json.loads(cell), False)
        except (ValueError, RecursionError):
            yield {"choices": [cell]}
    elif cell is not None and str(cell).strip():
        yield {"choices": [str(cell).strip()]}
