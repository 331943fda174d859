"""Annotations, wherever they were made, become labels, comparisons or ratings, and every one is counted."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from labeling.annotations import Annotation, latest
from labeling.folder import Folder, Plan, Task
from labeling.reviewing import SUFFIX, reference_file
from rlhf.foundation.locks import one_writer
from rlhf.foundation.records import Comparison, Label, rater_name, read_comparisons, read_labels, write_records

Kept = TypeVar("Kept", Label, Comparison)
REFERENCE = "kept apart as reference"


@dataclass(frozen=True, slots=True)
class Rating:
    """One annotator's rating of one blind task; `lead_time` in seconds."""

    uid: str
    rating: int
    annotator: str
    created_at: str
    lead_time: float | None


@dataclass(slots=True)
class Returned:
    """What came back, and a count of every annotation by what became of it.

    counts: labelled, skipped, empty, conflict (several choices in one answer), unknown choice, unknown control,
    superseded, kept apart as reference, unknown task (these add up to `annotations`); of the labelled, accepted
    untouched; of the superseded, those that order decided for want of a time; besides, twin tasks, tasks that are
    gone, answers that were taken back and, by a full pull, drafts: work that someone began and never submitted.
    References are answers of a reviewer, marked as ground truth, or made by another in a rater's own project: what
    raters are measured by, not one more rater's. `notes` are sentences for the person at the keyboard.
    """

    labels: list[Label] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    ratings: list[Rating] = field(default_factory=list)
    references: list[Label] = field(default_factory=list)
    comparison_references: list[Comparison] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    annotations: int = 0
    fetched_tasks: int = 0
    notes: list[str] = field(default_factory=list)


def add_up(returned: Returned, found: Sequence[Annotation], plan: Plan, tasks: Mapping[str, Task]) -> None:
    """Keep the latest annotation of each rater on each task, count all, and add the records they give."""
    if plan.reviewers:
        found = [
            dataclasses.replace(one, ground_truth=True) if rater_name(one.annotator) in plan.reviewers else one
            for one in found
        ]
    kept, superseded = latest(one for one in found if not one.ground_truth)
    returned.counts.update(superseded)
    returned.annotations += len(found) + returned.counts["unknown task"]
    for annotation in kept:
        returned.counts[annotation.outcome] += 1
        if annotation.choice is not None:
            returned.counts["accepted untouched"] += annotation.origin == "prediction"
            _add(returned, plan, tasks[annotation.uid], annotation, annotation.choice)
    apart = [one for one in found if one.ground_truth]
    returned.counts[REFERENCE] += len(apart)
    for annotation in latest(apart)[0]:
        if annotation.choice is not None:
            _add(returned, plan, tasks[annotation.uid], annotation, annotation.choice)


def _add(returned: Returned, plan: Plan, task: Task, annotation: Annotation, choice: str) -> None:
    meaning = plan.screen.meaning[choice]
    before = plan.screen.meaning.get(annotation.first or "")
    who = (annotation.annotator, annotation.updated_at, annotation.lead_time)
    apart = annotation.ground_truth
    rest = {"annotator": who[0], "created_at": who[1], "lead_time": who[2], "origin": annotation.origin}
    if plan.screen.kind == "judgement":
        (returned.references if apart else returned.labels).append(task.label(meaning, before, **rest))
    elif plan.screen.kind == "comparison":
        made = task.comparison(meaning, before, **rest)
        (returned.comparison_references if apart else returned.comparisons).append(made)
    elif not apart:
        returned.ratings.append(Rating(task.uid, int(meaning), *who))


def write_returned(folder: Folder, plan: Plan, returned: Returned, tasks: Mapping[str, Task]) -> None:
    """Write `labels.jsonl` or `comparisons.jsonl`, and references beside; ratings are left to the caller, who holds
    the key to them.

    Rows about other texts than the folder's tasks, which were added by `rlhf label import --append`, stay, a
    reviewer's among the references.
    """
    path = folder.path
    if plan.screen.kind == "judgement":
        moved = _write(path / "labels.jsonl", returned.labels, returned, tasks, read_labels, plan.reviewers)
        _write(reference_file(path / "labels.jsonl"), [*returned.references, *moved], returned, tasks, read_labels)
    elif plan.screen.kind == "comparison":
        compared, references = returned.comparisons, returned.comparison_references
        file = path / "comparisons.jsonl"
        apart = _write(file, compared, returned, tasks, read_comparisons, plan.reviewers)
        _write(reference_file(file), [*references, *apart], returned, tasks, read_comparisons)


def _write(
    path: Path,
    records: Sequence[Kept],
    returned: Returned,
    tasks: Mapping[str, Task],
    read: Callable[[Path], list[Kept]],
    reviewers: Sequence[str] = (),
) -> list[Kept]:
    """Write the records and those of other texts that were there; the latter's rows of reviewers, which are not."""
    with one_writer(path):
        there = path.exists()
        before: list[Kept] = read(path) if there and path.stat().st_size else []
        elsewhere: list[Kept] = [one for one in before if one.uid not in tasks]
        apart = [one for one in elsewhere if rater_name(one.annotator) in reviewers]
        elsewhere = [one for one in elsewhere if rater_name(one.annotator) not in reviewers]
        returned.counts["of other texts, kept"] += len(elsewhere)
        now = {(one.uid, one.annotator) for one in [*records, *elsewhere]}
        gone = {(one.uid, one.annotator) for one in before if rater_name(one.annotator) not in reviewers} - now
        returned.counts["taken back since"] += len(gone)
        if records or there or SUFFIX not in path.name:
            write_records(path, cast(Any, [*records, *elsewhere]))
    return apart
