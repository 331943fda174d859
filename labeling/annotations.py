"""Label Studio's annotations, read from its full JSON export: each one is labelled, or counted with its reason.

Tables and JSON-MIN, which lose what this format holds, are brought into the same shape (tables.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from labeling.results import kind_of, values_of
from rlhf.foundation.cells import read_bool, read_seconds
from rlhf.foundation.errors import InputError
from rlhf.foundation.moments import UNKNOWN, instant
from rlhf.foundation.records import Origin

Outcome = Literal["labelled", "skipped", "empty", "unknown choice", "unknown control", "conflict"]
UNTIMED = "decided by order for want of a time"


class Item(NamedTuple):
    """A task with its annotations; `place` says where it stands, for messages."""

    place: str
    data: Mapping[str, Any]
    annotations: Sequence[Mapping[str, Any]]
    drafts: int = 0


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotation of one task; `choice` is None unless the outcome is "labelled"; `lead_time` in seconds.

    `values` are the different values that were chosen: several make the outcome "conflict", unless they mean the
    same to whoever reads them. `number` (the annotation's id) tells apart two of the same instant. An answer with
    `ground_truth` is a reference for others, not one more rater's. `first` was chosen before reasons were shown.
    """

    uid: str
    annotator: str
    outcome: Outcome
    choice: str | None
    updated_at: str
    number: int
    lead_time: float | None
    origin: Origin
    values: tuple[str, ...] = ()
    ground_truth: bool = False
    first: str | None = None


def read_item(raw: Any, place: str) -> Item:
    """An item of a JSON export, its shape checked down to the results. Raises InputError naming the place."""
    item = _shaped(raw, dict, place)
    data = _shaped(item.get("data"), dict, f"{place}, data")
    annotations = _shaped(item.get("annotations") or [], list, f"{place}, annotations")
    for number, annotation in enumerate(annotations, start=1):
        where = f"{place}, annotation {number}"
        results = _shaped(_shaped(annotation, dict, where).get("result") or [], list, f"{where}, result")
        for result in results:
            _shaped(_shaped(result, dict, f"{where}, result").get("value") or {}, dict, f"{where}, value")
    return Item(place, data, annotations, len(_shaped(item.get("drafts") or [], list, f"{place}, drafts")))


def _shaped(value: Any, kind: type, place: str) -> Any:
    if isinstance(value, kind):
        return value
    raise InputError(
        place,
        got="nothing" if value is None else f"{value!r}"[:60],
        expected="an object" if kind is dict else "a list",
        fix="export the project again as JSON",
    )


def read_annotation(
    raw: Mapping[str, Any], *, place: str, uid: str, annotator: str, control: str, choices: Sequence[str] | None
) -> Annotation:
    """Read one element of an export item's `annotations`.

    `choices` None takes any value. A result's `origin` "prediction" is a pre-label that the person accepted
    untouched; it is kept. Raises InputError naming `place` for what cannot be read.
    """
    outcome, values, origin = _outcome(raw, control, choices, place)
    time = raw.get("updated_at") or raw.get("created_at") or ""
    instant(time, place)
    return Annotation(
        uid=uid,
        annotator=annotator,
        outcome=outcome,
        choice=values[0] if outcome == "labelled" else None,
        updated_at=time,
        number=_number(raw.get("id")),
        lead_time=read_seconds(raw.get("lead_time"), f"{place}, lead_time"),
        origin=origin,
        values=values,
        ground_truth=read_bool(raw.get("ground_truth"), f"{place}, ground_truth"),
    )


def _number(id: object) -> int:
    """An id as a number; 0 for a UUID and the like, which say nothing about the order."""
    if isinstance(id, int):
        return int(id)
    return int(id) if isinstance(id, str) and id.isascii() and id.isdigit() and len(id) < 20 else 0


def _outcome(
    raw: Mapping[str, Any], control: str, choices: Sequence[str] | None, place: str
) -> tuple[Outcome, tuple[str, ...], Origin]:
    if read_bool(raw.get("was_cancelled"), f"{place}, was_cancelled"):
        return "skipped", (), "manual"
    results = raw.get("result") or []
    if not results:
        return "empty", (), "manual"
    ours = [result for result in results if result.get("from_name") == control]
    if not ours:
        return "unknown control", (), "manual"
    origin: Origin = "prediction" if ours[0].get("origin") == "prediction" else "manual"
    if choices is not None and any(kind_of(result) != "choices" for result in ours):
        return "unknown choice", (), origin
    values = tuple(dict.fromkeys(value for result in ours for value in values_of(result, place)))
    if not values:
        return "empty", (), "manual"
    if len(values) > 1:
        return "conflict", values, origin
    return ("labelled" if choices is None or values[0] in choices else "unknown choice"), values, origin


def latest(annotations: Iterable[Annotation]) -> tuple[list[Annotation], Counter[str]]:
    """The latest annotation of each (uid, annotator), sorted by uid and annotator, and counts of what it superseded.

    The instant decides; one without a time is older than any with; among equals the greater number, then the later
    in order. A later skip or an emptied annotation supersedes an earlier label: the person took it back.
    """
    kept: dict[tuple[str, str], tuple[tuple[Any, int], Annotation]] = {}
    counts: Counter[str] = Counter()
    for annotation in annotations:
        key = (annotation.uid, annotation.annotator)
        age = (instant(annotation.updated_at, f"the answer of {annotation.annotator!r}"), annotation.number)
        if key in kept:
            other = kept[key][0]
            counts["superseded"] += 1
            counts[UNTIMED] += UNKNOWN in (age[0], other[0])
            if age < other:
                continue
        kept[key] = age, annotation
    return [kept[key][1] for key in sorted(kept)], counts


def read_items(
    items: Iterable[Item],
    *,
    uid_of: Callable[[Item], str | None],
    annotator_of: Callable[[Any, str], str],
    control: str,
    choices: Sequence[str] | None,
) -> tuple[list[Annotation], Counter[str]]:
    """All annotations of export items, and counts of what yields none.

    `uid_of` names an item's text, or None for a task that is not ours (counted as "unknown task"); `annotator_of`
    turns `completed_by` (an int, or an object with an `email`) and its place into a name. Unsaved work is counted as
    "draft".
    """
    found: list[Annotation] = []
    counts: Counter[str] = Counter()
    for item in items:
        uid = uid_of(item)
        counts["draft"] += item.drafts
        if uid is None:
            counts["unknown task"] += len(item.annotations)
            continue
        for number, raw in enumerate(item.annotations, start=1):
            place = f"{item.place}, annotation {number}"
            annotator = annotator_of(raw.get("completed_by"), place)
            found.append(
                read_annotation(raw, place=place, uid=uid, annotator=annotator, control=control, choices=choices)
            )
    return found, counts
