"""Labels made elsewhere: CSV, TSV, JSON lines or an export of Label Studio become labels or comparisons."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from labeling.annotations import Annotation, Item, latest, read_item, read_items
from labeling.dialogues import read_exchange, read_pairs
from labeling.pairs import Answer, Pair, content_uid
from labeling.people import NOBODY, emails_by_number, name_unknown, person
from labeling.results import kind_of
from labeling.tables import Columns, Row, annotator_of, as_items, is_studio, need, read_rows
from labeling.union import union
from rlhf.foundation.cells import read_bool, read_seconds
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_json
from rlhf.foundation.moments import instant
from rlhf.foundation.records import LABELS, Comparison, Label, LabelName

SKIP = "skip"
SIDES: Mapping[str, Answer] = {"left": "first", "right": "second", "tie": "tie"}
CONTROL = {"judgement": "sentiment", "comparison": "comparison"}
REFERENCE = "kept apart as reference (ground truth)"
WORD = re.compile(r'(?:"(?:[^"]|"")*"|[^,])+')  # a comma inside quotes parts nothing


@dataclass(frozen=True, slots=True)
class Imported:
    """What came in, and how many rows did not, by reason.

    References are answers marked as ground truth: what others are measured by, not one more rater's. `emails` holds
    the e-mail of each user-N that the file tells; `notes` are sentences for the person at the keyboard.
    """

    labels: list[Label] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    references: list[Label] = field(default_factory=list)
    comparison_references: list[Comparison] = field(default_factory=list)
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


@dataclass(frozen=True, slots=True)
class _Answers:
    """What a file holds, before it is known what its values mean."""

    found: list[Annotation]
    counts: Counter[str]
    control: str
    kinds: list[str]
    emails: Mapping[str, str]
    notes: list[str]


def import_labels(
    path: Path, columns: Columns, mapping: Mapping[str, str] | None = None, *, annotator: str = ""
) -> Imported:
    """Read judgements from `.csv`, `.tsv`, `.jsonl` or an export of Label Studio (JSON, JSON-MIN, CSV, TSV).

    `annotator` names answers that name nobody; without it they are "imported", and where others are named, two to one
    text are two people's. `columns.label` "" takes the control `sentiment`, or the only one. A value that is neither
    in `mapping` nor one of our labels (in any case) is an InputError that lists such values. Uids depend on prompt and
    text alone, so that two annotators of one text meet; of two answers of one annotator to one text the later in time
    wins, and the other is counted. Raises InputError, also when no label comes of it.
    """
    texts: dict[str, tuple[str, str]] = {}
    counts: Counter[str] = Counter()

    def uid_of(item: Item) -> str:
        prompt, (text,) = read_exchange(item, columns.prompt, [columns.text], counts)
        uid = content_uid(prompt, text)
        texts[uid] = prompt, text
        return uid

    fields = [columns.text, columns.prompt]
    answers = _read(path, _open(path), columns, fields, "judgement", annotator, uid_of)
    meanings: Mapping[str, str] = {**{name: name for name in LABELS}, **(mapping or {})}
    _check_values(path, answers, meanings, LABELS)

    def labels(found: Sequence[Annotation], counts: Counter[str]) -> list[Label]:
        made = []
        for one, meaning in _settled(found, meanings, counts):
            if not texts[one.uid][1].strip():
                counts["empty text"] += 1
                continue
            prompt, text = texts[one.uid]
            who = (one.annotator, one.updated_at, one.lead_time, one.origin)
            made.append(Label(one.uid, prompt, text, cast(LabelName, meaning), *who))
        return made

    counts.update(answers.counts)
    own = labels([one for one in answers.found if not one.ground_truth], counts)
    references = labels([one for one in answers.found if one.ground_truth], Counter())
    counts[REFERENCE] += len(references)
    _need_some(path, own, counts)
    return Imported(labels=own, references=references, counts=counts, emails=answers.emails, notes=answers.notes)


def import_comparisons(
    path: Path, columns: Columns, mapping: Mapping[str, str] | None = None, *, annotator: str = ""
) -> Imported:
    """Read comparisons: rows with `chosen` and `rejected` (and `tie`), or an export of Label Studio.

    The export's tasks have the fields `answer1` and `answer2` (and the prompt's); its control says left, right or
    tie, as our screen and Label Studio's own Pairwise do, or what `mapping` turns into them. Else as `import_labels`.
    """
    source = _open(path)
    if isinstance(source[0], Row) and source[0].cells.keys() >= {"chosen", "rejected"}:
        if mapping:
            raise InputError(
                "--map",
                got="a table of chosen and rejected",
                expected="answers that need a meaning",
                fix="leave it out",
            )
        return _preferences(path, source, columns, annotator)
    shown: dict[str, Pair] = {}  # by its texts as shown: tasks may hold one pair either way round
    counts: Counter[str] = Counter()

    def key_of(item: Item) -> str:
        named = columns.prompt if columns.prompt in item.data else ""
        prompt, (one, two) = read_exchange(item, named, ["answer1", "answer2"], counts)
        key = content_uid(prompt, one, two)
        shown[key] = Pair(content_uid(prompt, *sorted((one, two))), prompt, one, two)
        return key

    answers = _read(path, source, columns, ["answer1", "answer2"], "comparison", annotator, key_of)
    meanings: Mapping[str, str] = {**{side: side for side in SIDES}, **(mapping or {})}
    _check_values(path, answers, meanings, list(SIDES))

    def comparisons(found: Sequence[Annotation], counts: Counter[str]) -> list[Comparison]:
        made = []
        for one, meaning in _settled(found, meanings, counts):
            rest: dict[str, Any] = {"created_at": one.updated_at, "lead_time": one.lead_time, "origin": one.origin}
            made.append(shown[one.uid].answered(SIDES[meaning], annotator=one.annotator, **rest))
        joined, superseded = union(made)
        counts.update(superseded)
        return joined

    counts.update(answers.counts)
    own = comparisons([one for one in answers.found if not one.ground_truth], counts)
    references = comparisons([one for one in answers.found if one.ground_truth], Counter())
    counts[REFERENCE] += len(references)
    _need_some(path, own, counts)
    return Imported(
        comparisons=own,
        comparison_references=references,
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
        who = annotator_of(row.cells, columns.annotator, studio=is_studio(rows))
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
            )
        )
    joined, superseded = union(made)
    counts.update(superseded)
    _need_some(path, joined, counts)
    return Imported(comparisons=joined, counts=counts)


def _open(path: Path) -> list[Row] | list[Item]:
    """Rows of a table, or items of a full export. Raises InputError."""
    if path.suffix.lower() != ".json":
        return read_rows(path)
    found = read_json(path)
    if isinstance(found, list) and found and all(isinstance(row, dict) for row in found):
        if not any(name in row for row in found for name in ("annotations", "data", "completions")):
            return [Row(f"{path}, row {i}", row) for i, row in enumerate(found, start=1)]
        if all("annotations" in row for row in found):
            return [read_item(raw, f"{path}, task {i}") for i, raw in enumerate(found, start=1)]
    raise InputError(
        str(path),
        got="JSON without tasks that have `data` and `annotations`",
        expected="Label Studio's JSON or JSON-MIN export, or a list of rows",
        fix="choose JSON in Label Studio's export dialogue",
    )


def _read(
    path: Path,
    source: list[Row] | list[Item],
    columns: Columns,
    fields: Sequence[str],
    kind: str,
    annotator: str,
    uid_of: Callable[[Item], str],
) -> _Answers:
    notes: list[str] = []
    left_out: Counter[str] = Counter()
    if isinstance(source[0], Row):
        rows = source
        control = columns.label or CONTROL[kind]
        items, left_out = as_items(rows, dataclasses.replace(columns, label=control), fields)
        if not is_studio(rows) and not columns.annotator:
            annotator = annotator or NOBODY  # nothing in such a table could tell two people apart
        if is_studio(rows):
            notes.append(f"{path.name} holds no skipped answers, marks of ground truth or untouched pre-labels: the "
                         "JSON export does")  # fmt: skip
    else:
        items = source
        for item in items:
            need(item.data, fields, item.place)
        control = _control(path, items, columns.label, CONTROL[kind], notes)
    emails = emails_by_number(items)
    found, counts = read_items(
        items, uid_of=uid_of, annotator_of=lambda by, place: person(by, place, emails), control=control, choices=None
    )
    counts.update(left_out)
    found, further = name_unknown(found, annotator)
    if further:
        notes.append(f"{further} answers name nobody, to texts that another such answer is about: taken as other "
                     f"people's ({NOBODY}-2, ...); if it was one person, give --annotator NAME")  # fmt: skip
    kinds = {kind_of(r) for i in items for a in i.annotations for r in a.get("result") or [] if _is(r, control)}
    return _Answers(found, counts, control, sorted(kinds), emails, notes)


def _is(result: Mapping[str, Any], control: str) -> bool:
    return result.get("from_name") == control


def _control(path: Path, items: Sequence[Item], wanted: str, default: str, notes: list[str]) -> str:
    """The control that holds the answers: the one named, the default one, or the only one. Raises InputError."""
    results = (result for item in items for one in item.annotations for result in one.get("result") or [])
    there = sorted({str(result["from_name"]) for result in results if result.get("from_name")})
    if not there or (wanted or default) in there:
        return wanted or default
    if len(there) == 1 and not wanted:
        notes.append(f"answers are those of the control {there[0]!r}, the only one")
        return there[0]
    raise InputError(
        str(path),
        got=f"no control {wanted or default!r}",
        expected=f"one of {', '.join(map(repr, there))}",
        fix="name it with --label",
    )


def _settled(
    found: Sequence[Annotation], meanings: Mapping[str, str], counts: Counter[str]
) -> Iterator[tuple[Annotation, str]]:
    """The latest answer of each annotator to each text with its one meaning; all others are counted."""
    kept, superseded = latest(found)
    counts.update(superseded)
    for one in kept:
        said = {_meaning(value, meanings) for value in one.values} - {SKIP}
        if one.outcome not in ("labelled", "conflict"):
            counts[one.outcome] += 1
        elif len(said) != 1:
            counts["conflict" if said else "skipped by --map"] += 1
        else:
            yield one, said.pop()


def _meaning(value: str, meanings: Mapping[str, str]) -> str:
    return meanings.get(value, meanings.get(value.lower(), ""))


def _check_values(path: Path, answers: _Answers, meanings: Mapping[str, str], names: Sequence[str]) -> None:
    """Raise InputError that lists the values without a meaning, and says what kind of control they are of."""
    values = (value for one in answers.found for value in one.values)
    unknown = Counter(value for value in values if not _meaning(value, meanings))
    if unknown:
        listed = ", ".join(f"{value!r} ({n})" for value, n in unknown.most_common(8))
        kinds = [] if answers.kinds == ["choices"] else answers.kinds
        is_a = f", control {answers.control!r} is a {' and a '.join(kinds)}" if kinds else ""
        example = ",".join(f"{value}=..." for value in sorted(unknown)[:5])
        raise InputError(
            str(path) + is_a,
            got=f"label values {listed}",
            expected=f"{', '.join(names)}, or values named in --map",
            fix=f"give --map '{example}', each {', '.join(names)} or {SKIP}",
        )


def _need_some(path: Path, records: Sequence[object], counts: Counter[str]) -> None:
    if not records:
        said = ", ".join(f"{n} {name}" for name, n in counts.items() if n) or "nobody answered"
        raise InputError(
            str(path), got=f"no label at all ({said})", expected="at least one", fix="check --label and --map"
        )
