"""The answers in a file, read once from beginning to end: what each says, by whom, and why some say nothing."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from labeling.annotations import Annotation, Item, read_annotation
from labeling.answer_table import AnswerTable, Outcome
from labeling.people import NOBODY, People, name_unknown
from labeling.results import kind_of
from labeling.tables import Columns, Row, as_items, is_studio, need
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import Advance
from rlhf.foundation.moments import microseconds

SKIP = "skip"
CONTROL = {"judgement": "sentiment", "comparison": "comparison"}
Exchange = Callable[[Item, Counter[str]], tuple[str, list[str]]]
"""An item's uid, and its prompt and texts; what had to be changed in them is counted."""


class Source:
    """Rows or items of a file, at least one, from the beginning at every turn; `first` is the first of them."""

    def __init__(self, path: Path, begin: Callable[[], Iterator[Row] | Iterator[Item]]) -> None:
        self.path, self._begin = path, begin
        begun: Iterator[Row | Item] = begin()
        self.first = next(begun)
        self._rest: Iterator[Row | Item] | None = itertools.chain([self.first], begun)

    def __iter__(self) -> Iterator[Row | Item]:
        rest, self._rest = self._rest, None
        return rest if rest is not None else self._begin()


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for: answers of a kind about texts in the data columns `fields`, with these values' meanings.

    `names` are the meanings there are; `annotator` is whoever answered where nobody is named.
    """

    kind: str
    columns: Columns
    fields: Sequence[str]
    names: Sequence[str]
    meanings: Mapping[str, str]
    annotator: str

    def meaning(self, value: str) -> str:
        """What a value means, in any case, "" where nobody says."""
        return self.meanings.get(value, self.meanings.get(value.lower(), ""))

    def before(self, cell: Any) -> str | None:
        """What the value of a blind first answer means: None without one, "" where nobody says."""
        value = "" if cell is None else str(cell).strip()
        meaning = self.meaning(value) if value else SKIP
        return None if meaning == SKIP else meaning

    def outcome(self, one: Annotation, said: set[str], texts: Sequence[str]) -> Outcome:
        """What an annotation whose values mean `said` says of these texts, or why nothing."""
        said = said - {SKIP}
        if one.outcome not in ("labelled", "conflict"):
            return Outcome(False, one.outcome)
        if len(said) != 1:
            return Outcome(False, "conflict" if said else "skipped by --map")
        if self.kind == "judgement" and not texts[1].strip():
            return Outcome(False, "empty text")
        return Outcome(True, said.pop(), one.origin)


@dataclasses.dataclass(slots=True)
class Answers:
    """All answers of a file, what the people are called, counts of what became of rows, and sentences for a person."""

    table: AnswerTable
    names: list[str]
    counts: Counter[str]
    emails: Mapping[str, str]
    notes: list[str]


@dataclasses.dataclass(slots=True)
class _Read:
    """What one turn through a file finds, of the answers in `control`."""

    control: str
    table: AnswerTable = dataclasses.field(default_factory=AnswerTable)
    people: People = dataclasses.field(default_factory=People)
    counts: Counter[str] = dataclasses.field(default_factory=Counter)
    controls: set[str] = dataclasses.field(default_factory=set)
    kinds: set[str] = dataclasses.field(default_factory=set)
    unknown: Counter[str] = dataclasses.field(default_factory=Counter)
    unknown_first: Counter[str] = dataclasses.field(default_factory=Counter)


def read_answers(
    path: Path, source: Source, wanted: Wanted, exchange: Exchange, advance: Advance | None = None
) -> Answers:
    """Read a file to its end. Raises InputError, also for values without a meaning, all of them listed."""
    notes: list[str] = []
    annotator = wanted.annotator
    read = _Read(wanted.columns.label or CONTROL[wanted.kind])
    if isinstance(source.first, Row):
        studio = is_studio(source.first.cells)
        rows = (row for row in source if isinstance(row, Row))
        columns = dataclasses.replace(wanted.columns, label=read.control)
        same = path.suffix.lower() in (".csv", ".tsv")
        _read(read, as_items(rows, columns, wanted.fields, read.counts, same_columns=same), wanted, exchange)
        if not studio and not columns.annotator:
            annotator = annotator or NOBODY  # nothing in such a table could tell two people apart
        if studio:
            notes.append(f"{path.name} holds no skipped answers, marks of ground truth or untouched pre-labels: the "
                         "JSON export does")  # fmt: skip
    else:
        _read(read, _items(source, wanted), wanted, exchange)
        if (control := _control(path, read, wanted.columns.label)) != read.control:
            notes.append(f"answers are those of the control {control!r}, the only one")
            if advance is not None:
                advance(-path.stat().st_size)  # the bar begins again
            read = _Read(control)
            _read(read, _items(source, wanted), wanted, exchange)
    _check_values(path, read, wanted)
    names, further = name_unknown(read.table, read.people, annotator)
    if further:
        notes.append(f"{further} answers name nobody, to texts that another such answer is about: taken as other "
                     f"people's ({NOBODY}-2, ...); if it was one person, give --annotator NAME")  # fmt: skip
    return Answers(read.table, names, read.counts, read.people.emails, notes)


def _items(source: Source, wanted: Wanted) -> Iterator[Item]:
    for item in source:
        assert isinstance(item, Item)
        need(item.data, wanted.fields, item.place)
        yield item


def _read(read: _Read, items: Iterable[Item], wanted: Wanted, exchange: Exchange) -> None:
    """Every annotation of the items into the table; unsaved work is counted as "draft"."""
    for item in items:
        uid, texts = exchange(item, read.counts)
        read.counts["draft"] += item.drafts
        for number, raw in enumerate(item.annotations, start=1):
            place = f"{item.place}, annotation {number}"
            person = read.people.number(raw.get("completed_by"), place)
            read.controls.update(str(name) for one in raw.get("result") or [] if (name := one.get("from_name")))
            one = read_annotation(raw, place=place, uid=uid, annotator="", control=read.control, choices=None)
            said = {wanted.meaning(value) for value in one.values}
            if "" in said:
                _note_unknown(read, wanted, one, raw)
            before = wanted.before(raw.get("before"))
            if before == "":
                read.unknown_first[str(raw["before"])] += 1
            read.table.add(
                uid,
                texts,
                person,
                at=microseconds(one.updated_at, place),
                number=one.number,
                outcome=wanted.outcome(one, said, texts),
                reference=one.ground_truth,
                rest=(one.updated_at, one.lead_time, before),
            )


def _note_unknown(read: _Read, wanted: Wanted, one: Annotation, raw: Mapping[str, Any]) -> None:
    read.unknown.update(value for value in one.values if not wanted.meaning(value))
    read.kinds.update(kind_of(result) for result in raw["result"] if result.get("from_name") == read.control)


def _control(path: Path, read: _Read, wanted: str) -> str:
    """The control that holds the answers: the one named, the default one, or the only one. Raises InputError."""
    there = sorted(read.controls)
    if not there or read.control in there:
        return read.control
    if len(there) == 1 and not wanted:
        return there[0]
    raise InputError(
        str(path),
        got=f"no control {read.control!r}",
        expected=f"one of {', '.join(map(repr, there))}",
        fix="name it with --label",
    )


def _check_values(path: Path, read: _Read, wanted: Wanted) -> None:
    """Raise InputError that lists the values without a meaning, and says what kind of control they are of."""
    if read.unknown_first:
        raise InputError(
            f"{path}, column {wanted.columns.first!r}",
            got=f"values {', '.join(repr(value) for value, _ in read.unknown_first.most_common(8))}",
            expected=f"what the rater said before any reasons were shown: {', '.join(wanted.names)}, or nothing",
            fix="name them in --map, or rename the column if it holds something else",
        )
    if not read.unknown:
        return
    listed = ", ".join(f"{value!r} ({n})" for value, n in read.unknown.most_common(8))
    kinds = [] if read.kinds == {"choices"} else sorted(read.kinds)
    is_a = f", control {read.control!r} is a {' and a '.join(kinds)}" if kinds else ""
    example = ",".join(f"{value}=..." for value in sorted(read.unknown)[:5])
    raise InputError(
        str(path) + is_a,
        got=f"label values {listed}",
        expected=f"{', '.join(wanted.names)}, or values named in --map",
        fix=f"give --map '{example}', each {', '.join(wanted.names)} or {SKIP}",
    )
