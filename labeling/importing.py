"""Labels made elsewhere: CSV, TSV, JSON lines or an export of Label Studio become labels or comparisons."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast, get_args

from labeling.annotations import Item, read_item
from labeling.dialogues import read_exchange, read_pairs
from labeling.import_reading import SKIP, Source, Wanted, read_answers
from labeling.pairs import Answer, Pair, with_first
from labeling.people import NOBODY, person
from labeling.tables import Columns, Row, annotator_of, is_studio, need, read_rows
from labeling.union import union
from rlhf.foundation.cells import read_bool, read_seconds
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import Advance, read_json
from rlhf.foundation.json_arrays import is_array, iter_array
from rlhf.foundation.lazy import Lazy
from rlhf.foundation.moments import instant
from rlhf.foundation.records import LABELS, Comparison, FirstChoice, Label, LabelName, content_uid

SIDES: Mapping[str, Answer] = {"left": "first", "right": "second", "tie": "tie"}
REFERENCE = "kept apart as reference (ground truth)"
WORD = re.compile(r'(?:"(?:[^"]|"")*"|[^,])+')  # a comma inside quotes parts nothing


@dataclass(frozen=True, slots=True)
class Imported:
    """What came in, and how many rows did not, by reason.

    References are answers marked as ground truth: what others are measured by, not one more rater's. `emails` holds
    the e-mail of each user-N that the file tells; `notes` are sentences for the person at the keyboard.
    """

    labels: Sequence[Label] = field(default_factory=list)
    comparisons: Sequence[Comparison] = field(default_factory=list)
    references: Sequence[Label] = field(default_factory=list)
    comparison_references: Sequence[Comparison] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    emails: Mapping[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def parse_map(words: Sequence[str], *, meanings: Sequence[str] = LABELS) -> dict[str, str]:
    """`["happy=positive,sad=negative"]` as a mapping; a value may also be `skip`, and one with a comma is quoted.

    Raises InputError, also for a value that is given two meanings.
    """
    mapping: dict[str, str] = {}
    for word in (part for text in words for part in WORD.findall(text) if part.strip()):
        choice, _, meaning = (piece.strip() for piece in word.rpartition("="))
        if len(choice) > 1 and choice[0] == choice[-1] == '"':
            choice = choice[1:-1].replace('""', '"')
        if not choice or meaning not in (*meanings, SKIP) or mapping.get(choice, meaning) != meaning:
            twice = f", after {choice}={mapping[choice]}" if choice in mapping else ""
            raise InputError(
                "--map",
                got=repr(word.strip()) + twice,
                expected=f"VALUE={'|'.join((*meanings, SKIP))}, each value once",
                fix="for example --map happy=positive,sad=negative; quote a value with a comma: '\"a, b\"=positive'",
            )
        mapping[choice] = meaning
    return mapping


def import_labels(
    path: Path,
    columns: Columns,
    mapping: Mapping[str, str] | None = None,
    *,
    annotator: str = "",
    advance: Advance | None = None,
) -> Imported:
    """Read judgements from `.csv`, `.tsv`, `.jsonl` or an export of Label Studio (JSON, JSON-MIN, CSV, TSV).

    `annotator` names answers that name nobody; without it they are "imported", and where others are named, two to one
    text are two people's. `columns.label` "" takes the control `sentiment`, or the only one. A value that is neither
    in `mapping` nor one of our labels (in any case) is an InputError that lists such values. Uids depend on prompt and
    text alone, so that two annotators of one text meet; of two answers of one annotator to one text the later in time
    wins, and the other is counted. The records are made when they are looked at. `advance` is told the bytes read.
    Raises InputError, also when no label comes of it.
    """

    def exchange(item: Item, counts: Counter[str]) -> tuple[str, list[str]]:
        prompt, (text,) = read_exchange(item, columns.prompt, [columns.text], counts)
        return content_uid(prompt, text), [prompt, text]

    meanings: Mapping[str, str] = {**{name: name for name in LABELS}, **(mapping or {})}
    wanted = Wanted("judgement", columns, [columns.text, columns.prompt], LABELS, meanings, annotator)
    answers = read_answers(path, _open(path, advance), wanted, exchange, advance)
    table, names = answers.table, answers.names

    def label(place: int) -> Label:
        (prompt, text), (created_at, lead_time, first) = table.content(place)
        outcome, name = table.outcome(place), names[table.people[place]]
        said = cast(LabelName, outcome.said)
        return Label(table.uid(place), prompt, text, said, name, created_at, lead_time, outcome.origin, first)

    counts = answers.counts
    own, passed_over = table.latest(names, reference=False)
    references, _ = table.latest(names, reference=True)
    counts.update(passed_over)
    counts[REFERENCE] += len(references)
    _need_some(path, own, counts)
    return Imported(
        labels=Lazy(label, own),
        references=Lazy(label, references),
        counts=counts,
        emails=answers.emails,
        notes=answers.notes,
    )


def import_comparisons(
    path: Path,
    columns: Columns,
    mapping: Mapping[str, str] | None = None,
    *,
    annotator: str = "",
    advance: Advance | None = None,
) -> Imported:
    """Read comparisons: rows with `chosen` and `rejected` (and `tie`), or an export of Label Studio.

    The export's tasks have the fields `answer1` and `answer2` (and the prompt's); its control says left, right or
    tie, as our screen and Label Studio's own Pairwise do, or what `mapping` turns into them. Else as `import_labels`.
    """
    source = _open(path, advance)
    if isinstance(source.first, Row) and source.first.cells.keys() >= {"chosen", "rejected"}:
        if mapping:
            raise InputError(
                "--map",
                got="a table of chosen and rejected",
                expected="answers that need a meaning",
                fix="leave it out",
            )
        return _preferences(path, [row for row in source if isinstance(row, Row)], columns, annotator)

    def exchange(item: Item, counts: Counter[str]) -> tuple[str, list[str]]:
        named = columns.prompt if columns.prompt in item.data else ""
        prompt, (one, two) = read_exchange(item, named, ["answer1", "answer2"], counts)
        return content_uid(prompt, one, two), [prompt, one, two]  # tasks may hold one pair either way round

    meanings: Mapping[str, str] = {**{side: side for side in SIDES}, **(mapping or {})}
    wanted = Wanted("comparison", columns, ["answer1", "answer2"], list(SIDES), meanings, annotator)
    answers = read_answers(path, source, wanted, exchange, advance)
    table, names = answers.table, answers.names

    def comparison(place: int) -> Comparison:
        (prompt, one, two), (created_at, lead_time, first) = table.content(place)
        outcome = table.outcome(place)
        rest: dict[str, Any] = {"created_at": created_at, "lead_time": lead_time, "origin": outcome.origin}
        rest["annotator"] = names[table.people[place]]
        pair = Pair(content_uid(prompt, *sorted((one, two))), prompt, one, two)
        made = pair.answered(SIDES[outcome.said], **rest)
        return made if first is None else with_first(made, pair.answered(SIDES[first], **rest))

    counts = answers.counts
    own, passed_over = table.latest(names, reference=False)
    references, _ = table.latest(names, reference=True)
    joined, superseded = union(Lazy(comparison, own))
    counts.update(passed_over)
    counts.update(superseded)
    counts[REFERENCE] += len(apart := union(Lazy(comparison, references))[0])
    _need_some(path, joined, counts)
    return Imported(
        comparisons=joined,
        comparison_references=apart,
        counts=counts,
        emails=answers.emails,
        notes=answers.notes,
    )


def _preferences(path: Path, rows: Sequence[Row], columns: Columns, annotator: str) -> Imported:
    """Comparisons of a table with chosen and rejected, in any layout (layouts.py), and a tie if it says so."""
    counts: Counter[str] = Counter()
    made = []
    for row in rows:
        need(row.cells, ["chosen", "rejected", columns.annotator], row.place)
    for row, (prompt, chosen, rejected) in zip(rows, read_pairs(rows, columns.prompt, counts), strict=True):
        if not chosen.strip() and not rejected.strip():
            counts["empty text"] += 1
            continue
        who = annotator_of(row.cells, columns.annotator, studio=is_studio(rows[0].cells))
        created_at = row.cells.get("updated_at") or row.cells.get("created_at") or ""
        instant(created_at, row.place)
        made.append(
            Comparison(
                uid=content_uid(prompt, *sorted((chosen, rejected))),
                prompt=prompt,
                chosen=chosen,
                rejected=rejected,
                annotator=person(who, row.place, {}) or annotator or NOBODY,
                tie=read_bool(row.cells.get("tie"), f"{row.place}, tie"),
                created_at=created_at,
                lead_time=read_seconds(row.cells.get("lead_time"), f"{row.place}, lead_time"),
                first=_first_choice(row, columns.first),
            )
        )
    joined, superseded = union(made)
    counts.update(superseded)
    _need_some(path, joined, counts)
    return Imported(comparisons=joined, counts=counts)


def _first_choice(row: Row, column: str) -> FirstChoice | None:
    """What a row says was chosen before any reasons were shown. Raises InputError for another value."""
    value = str(row.cells.get(column) or "").strip()
    if value and value not in (names := get_args(FirstChoice)):
        raise InputError(
            f"{row.place}, column {column!r}",
            got=repr(value),
            expected=f"what the rater chose before any reasons were shown: {', '.join(names)}, or nothing",
            fix="rename the column if it holds something else",
        )
    return cast(FirstChoice, value) if value else None


def _open(path: Path, advance: Advance | None) -> Source:
    """Rows of a table, or items of a full export, one after another. Raises InputError."""
    if path.suffix.lower() != ".json":
        return Source(path, lambda: read_rows(path, advance))
    return Source(path, lambda: _of_json(path, advance))


def _of_json(path: Path, advance: Advance | None) -> Iterator[Row] | Iterator[Item]:
    if not is_array(path):
        read_json(path)
        raise _no_tasks(path)
    studio: bool | None = None
    for number, raw in enumerate(iter_array(path, advance), start=1):
        if not isinstance(raw, dict):
            raise _no_tasks(path)
        export = any(name in raw for name in ("annotations", "data", "completions"))
        studio = export if studio is None else studio
        if export != studio or (studio and "annotations" not in raw):
            raise _no_tasks(path)
        yield read_item(raw, f"{path}, task {number}") if studio else Row(f"{path}, row {number}", raw)
    if studio is None:
        raise _no_tasks(path)


def _no_tasks(path: Path) -> InputError:
    return InputError(
        str(path),
        got="JSON without tasks that have `data` and `annotations`",
        expected="Label Studio's JSON or JSON-MIN export, or a list of rows",
        fix="choose JSON in Label Studio's export dialogue",
    )


def _need_some(path: Path, records: Sequence[object], counts: Counter[str]) -> None:
    if not records:
        said = ", ".join(f"{n} {name}" for name, n in counts.items() if n) or "nobody answered"
        raise InputError(
            str(path), got=f"no label at all ({said})", expected="at least one", fix="check --label and --map"
        )
