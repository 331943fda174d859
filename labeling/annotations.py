"""Label Studio's annotations, read from its full JSON export: each one is labelled, or counted with its reason.

JSON_MIN is not read: it loses skipped annotations and drops the label of empty ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rlhf.foundation.records import Origin

Outcome = Literal["labelled", "skipped", "empty", "unknown choice", "unknown control"]


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotation of one task; `choice` is None unless the outcome is "labelled"; `lead_time` in seconds."""

    task: int
    uid: str
    annotator: str
    outcome: Outcome
    choice: str | None
    updated_at: str
    number: int
    lead_time: float | None
    origin: Origin


def read_annotation(
    raw: Mapping[str, Any], *, task: int, uid: str, annotator: str, control: str, choices: Sequence[str] | None
) -> Annotation:
    """Read one element of an export item's `annotations`.

    `choices` None takes any choice. A result's `origin` "prediction" is a pre-label that the person accepted
    untouched; it is kept. A negative lead time, which Label Studio accepts, becomes unknown.
    """
    outcome, choice, origin = _outcome(raw, control, choices)
    lead_time = raw.get("lead_time")
    known_time = isinstance(lead_time, (int, float)) and not isinstance(lead_time, bool) and lead_time >= 0
    return Annotation(
        task=task,
        uid=uid,
        annotator=annotator,
        outcome=outcome,
        choice=choice,
        updated_at=str(raw.get("updated_at") or raw.get("created_at") or ""),
        number=int(raw.get("id") or 0),
        lead_time=float(lead_time) if known_time and lead_time is not None else None,
        origin=origin,
    )


def _outcome(raw: Mapping[str, Any], control: str, choices: Sequence[str] | None) -> tuple[Outcome, str | None, Origin]:
    if raw.get("was_cancelled"):
        return "skipped", None, "manual"
    results = raw.get("result") or []
    if not results:
        return "empty", None, "manual"
    ours = [r for r in results if r.get("from_name") == control]
    if not ours:
        return "unknown control", None, "manual"
    value = ours[0].get("value") or {}
    # Label Studio's own Pairwise control says {"selected": "left"}; ours and every Choices say {"choices": [...]}.
    chosen = [value["selected"]] if value.get("selected") else value.get("choices") or []
    origin: Origin = "prediction" if ours[0].get("origin") == "prediction" else "manual"
    if not chosen:
        return "empty", None, "manual"
    if len(chosen) > 1 or (choices is not None and chosen[0] not in choices):
        return "unknown choice", None, origin
    return "labelled", chosen[0], origin


def latest(annotations: Iterable[Annotation]) -> tuple[list[Annotation], int]:
    """The latest annotation of each (uid, annotator), sorted by uid and annotator, and how many it superseded.

    A later skip or an emptied annotation supersedes an earlier label: the person took it back.
    """
    kept: dict[tuple[str, str], Annotation] = {}
    superseded = 0
    for annotation in annotations:
        key = (annotation.uid, annotation.annotator)
        other = kept.get(key)
        superseded += other is not None
        if other is None or (annotation.updated_at, annotation.number) > (other.updated_at, other.number):
            kept[key] = annotation
    return [kept[key] for key in sorted(kept)], superseded


def read_items(
    items: Iterable[Mapping[str, Any]],
    *,
    uid_of: Callable[[Mapping[str, Any]], str | None],
    annotator_of: Callable[[Any], str],
    control: str,
    choices: Sequence[str] | None,
) -> tuple[list[Annotation], Counter[str]]:
    """All annotations of export items, and counts of what yields none.

    `uid_of` names an item's sample, or None for a task that is not ours (counted as "unknown task"); `annotator_of`
    turns `completed_by` (an int, or an object with an `email`) into a name. Unsaved work is counted as "draft".
    """
    found: list[Annotation] = []
    counts: Counter[str] = Counter()
    for item in items:
        uid = uid_of(item)
        raws = item.get("annotations") or []
        counts["draft"] += len(item.get("drafts") or [])
        if uid is None:
            counts["unknown task"] += len(raws)
            continue
        for raw in raws:
            found.append(
                read_annotation(
                    raw,
                    task=int(item.get("id") or 0),
                    uid=uid,
                    annotator=annotator_of(raw.get("completed_by")),
                    control=control,
                    choices=choices,
                )
            )
    return found, counts
