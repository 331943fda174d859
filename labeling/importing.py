"""Labels made elsewhere: CSV, JSON lines or a full JSON export of Label Studio become labels or comparisons."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from labeling.annotations import latest, read_items
from labeling.pairs import Answer, Pair, content_uid
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_jsonl, read_text
from rlhf.foundation.records import LABELS, Comparison, Label, LabelName

SKIP = "skip"
SIDES: Mapping[str, Answer] = {"left": "first", "right": "second", "tie": "tie"}
Kept = TypeVar("Kept", Label, Comparison)


@dataclass(frozen=True, slots=True)
class Imported:
    """What came in, and how many rows did not, by reason."""

    labels: list[Label] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of a table's columns; in an export of Label Studio, `text` is the data field and `label` the control."""

    text: str
    label: str
    prompt: str = ""
    annotator: str = ""


def parse_map(words: Sequence[str], *, meanings: Sequence[str] = LABELS) -> dict[str, str]:
    """`["happy=positive,sad=negative"]` as a mapping; a value may also be `skip`. Raises InputError."""
    mapping: dict[str, str] = {}
    for word in (part for text in words for part in text.split(",") if part.strip()):
        choice, _, meaning = (piece.strip() for piece in word.rpartition("="))
        if not choice or meaning not in (*meanings, SKIP):
            raise InputError(
                "--map",
                got=repr(word.strip()),
                expected=f"VALUE={'|'.join((*meanings, SKIP))}",
                fix="for example --map happy=positive,sad=negative",
            )
        mapping[choice] = meaning
    return mapping


def import_labels(path: Path, columns: Columns, mapping: Mapping[str, str], *, annotator: str) -> Imported:
    """Read judgements from `.csv`, `.tsv`, `.jsonl` or a Label Studio export (`.json`).

    `annotator` names rows whose file names nobody. A value that is neither in `mapping` nor one of our labels (in
    any case) is an InputError that lists such values. Uids depend on prompt and text alone, so that two annotators
    of one text meet; of two rows of one annotator on one text the later wins, and is counted.
    """
    if path.suffix == ".json":
        rows, counts = _export_rows(path, columns, annotator)
    else:
        rows, counts = _table_rows(path, columns, annotator)
    values: dict[str, str] = {**{name: name for name in LABELS}, **mapping}
    _check_values(path, [row["value"] for row in rows], values)
    labels = []
    for row in rows:
        meaning = values.get(row["value"], values.get(row["value"].lower(), SKIP))
        if meaning == SKIP:
            counts["skipped by --map"] += 1
        elif not row["text"].strip():
            counts["empty text"] += 1
        else:
            uid = content_uid(row["prompt"], row["text"])
            label = cast(LabelName, meaning)
            rest = (row["annotator"], row["created_at"], row["lead_time"], row["origin"])
            labels.append(Label(uid, row["prompt"], row["text"], label, *rest))
    return Imported(labels=_last_of_each(labels, counts), counts=counts)


def import_comparisons(path: Path, *, prompt: str, control: str, annotator: str) -> Imported:
    """Read comparisons from JSON lines or CSV with `chosen` and `rejected` (and `tie`), or a Label Studio export.

    The export's tasks have the fields `prompt`, `answer1`, `answer2`; its control says left, right or tie, as our
    screen and Label Studio's own Pairwise do.
    """
    if path.suffix == ".json":
        return _export_comparisons(path, prompt, control, annotator)
    counts: Counter[str] = Counter()
    comparisons = []
    for number, row in enumerate(_read_table(path), start=1):
        _need(row, ["chosen", "rejected"], f"{path}, record {number}")
        prompt_text = _cell(row, prompt)
        chosen, rejected = str(row["chosen"]), str(row["rejected"])
        if not chosen.strip() and not rejected.strip():
            counts["empty text"] += 1
            continue
        tie = str(row.get("tie", "")).lower() in ("true", "1")
        uid = content_uid(prompt_text, *sorted((chosen, rejected)))
        comparisons.append(Comparison(uid, prompt_text, chosen, rejected, annotator, tie))
    return Imported(comparisons=_last_of_each(comparisons, counts), counts=counts)


def _read_table(path: Path) -> list[dict[str, Any]]:
    if path.suffix in (".jsonl", ".ndjson"):
        rows = read_jsonl(path)
    elif path.suffix in (".csv", ".tsv"):
        delimiter = "\t" if path.suffix == ".tsv" else ","
        text = read_text(path).removeprefix("\ufeff")  # Excel's byte-order mark would join the first column's name
        csv.field_size_limit(2**31 - 1)
        rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))
    else:
        raise InputError(
            str(path),
            got=f"a file name ending in '{path.suffix}'",
            expected=".csv, .tsv, .jsonl, or .json for a Label Studio export",
            fix="rename or convert the file",
        )
    if not rows:
        raise InputError(str(path), got="no rows", expected="at least one row", fix="check the file")
    return rows


def _table_rows(path: Path, columns: Columns, annotator: str) -> tuple[list[dict[str, Any]], Counter[str]]:
    rows, counts = [], Counter[str]()
    wanted = [name for name in (columns.text, columns.label, columns.prompt, columns.annotator) if name]
    for number, row in enumerate(_read_table(path), start=1):
        _need(row, wanted, f"{path}, record {number}")
        value = _cell(row, columns.label).strip()
        if not value:
            counts["no label"] += 1
            continue
        rows.append(
            {
                "text": _cell(row, columns.text),
                "prompt": _cell(row, columns.prompt),
                "annotator": _cell(row, columns.annotator) or annotator,
                "value": value,
                "created_at": "",
                "lead_time": None,
                "origin": "manual",
            }
        )
    return rows, counts


def _need(row: Mapping[str, Any], names: Sequence[str], place: str) -> None:
    missing = [name for name in names if name not in row]
    if missing:
        raise InputError(
            place,
            got=f"no column {', '.join(missing)}",
            expected=f"one of {', '.join(str(name) for name in row)}",
            fix="name the columns with --text, --label, --prompt and --annotator_column",
        )


def _cell(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name) if name else None
    return "" if value is None else str(value)


def _check_values(path: Path, found: Sequence[str], values: Mapping[str, str]) -> None:
    unknown = Counter(value for value in found if value not in values and value.lower() not in values)
    if unknown:
        listed = ", ".join(f"{value!r} ({n})" for value, n in unknown.most_common(8))
        raise InputError(
            str(path),
            got=f"label values {listed}",
            expected="positive, neutral, negative, or values named in --map",
            fix=f"add for example --map '{unknown.most_common(1)[0][0]}=positive' (or =skip)",
        )


def _last_of_each(records: Sequence[Kept], counts: Counter[str]) -> list[Kept]:
    kept: dict[tuple[str, str], Kept] = {}
    for record in records:
        counts["repeated, the last kept"] += (record.uid, record.annotator) in kept
        kept[record.uid, record.annotator] = record
    return list(kept.values())


def read_export(path: Path) -> list[dict[str, Any]]:
    """Items of a Label Studio JSON export. Raises InputError for JSON_MIN and for anything else."""
    try:
        items = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(
            str(path), got=f"no valid JSON ({error.msg})", expected="a Label Studio JSON export", fix="export it again"
        ) from error
    whole = isinstance(items, list) and all(isinstance(i, dict) and "annotations" in i and "data" in i for i in items)
    if not whole or not items:
        raise InputError(
            str(path),
            got="JSON without tasks that have `data` and `annotations`",
            expected="Label Studio's full JSON export (JSON_MIN loses skipped annotations)",
            fix="choose JSON in Label Studio's export dialogue",
        )
    return cast(list[dict[str, Any]], items)


def _named(completed_by: Any, fallback: str) -> str:
    if isinstance(completed_by, Mapping):
        return str(completed_by.get("email") or f"user-{completed_by.get('id')}")
    return fallback if completed_by is None else f"user-{completed_by}"


def _export_rows(path: Path, columns: Columns, annotator: str) -> tuple[list[dict[str, Any]], Counter[str]]:
    items = read_export(path)
    data = {int(item["id"]): item["data"] for item in items}
    for item in items:
        _need(item["data"], [name for name in (columns.text, columns.prompt) if name], f"{path}, task {item['id']}")
    found, counts = read_items(
        items,
        uid_of=lambda item: str(item["id"]),
        annotator_of=lambda by: _named(by, annotator),
        control=columns.label,
        choices=None,
    )
    kept, counts["superseded"] = latest(found)
    rows = []
    for a in kept:
        if a.choice is None:
            counts[a.outcome] += 1
            continue
        task = data[a.task]
        rows.append(
            {
                "text": _cell(task, columns.text),
                "prompt": _cell(task, columns.prompt),
                "annotator": a.annotator,
                "value": a.choice,
                "created_at": a.updated_at,
                "lead_time": a.lead_time,
                "origin": a.origin,
            }
        )
    return rows, counts


def _export_comparisons(path: Path, prompt: str, control: str, annotator: str) -> Imported:
    items = read_export(path)
    data = {int(item["id"]): item["data"] for item in items}
    for item in items:
        _need(item["data"], ["answer1", "answer2"], f"{path}, task {item['id']}")
    found, counts = read_items(
        items,
        uid_of=lambda item: str(item["id"]),
        annotator_of=lambda by: _named(by, annotator),
        control=control,
        choices=None,
    )
    kept, counts["superseded"] = latest(found)
    _check_sides(path, [a.choice for a in kept if a.choice is not None])
    comparisons = []
    for a in kept:
        if a.choice is None:
            counts[a.outcome] += 1
            continue
        task = data[a.task]
        prompt_text, one, two = _cell(task, prompt), str(task["answer1"]), str(task["answer2"])
        pair = Pair(content_uid(prompt_text, *sorted((one, two))), prompt_text, one, two)
        comparisons.append(
            pair.answered(
                SIDES[a.choice.lower()],
                annotator=a.annotator,
                origin=a.origin,
                created_at=a.updated_at,
                lead_time=a.lead_time,
            )
        )
    return Imported(comparisons=_last_of_each(comparisons, counts), counts=counts)


def _check_sides(path: Path, choices: Sequence[str]) -> None:
    unknown = sorted({choice for choice in choices if choice.lower() not in SIDES})
    if unknown:
        raise InputError(
            str(path),
            got=f"choices {', '.join(unknown)}",
            expected="left, right or tie",
            fix="rename the choices in the export, or import it as judgements",
        )
