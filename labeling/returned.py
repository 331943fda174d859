"""Annotations, wherever they were made, become labels, comparisons or ratings, and every one is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from labeling.annotations import Annotation, latest
from labeling.folder import Folder, Plan, Task
from rlhf.foundation.records import Comparison, Label, write_records


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

    counts: labelled, skipped, empty, unknown choice, unknown control, superseded, unknown task (these add up to
    `annotations`); of the labelled, accepted untouched; besides, twin tasks, tasks that are gone and, by a full pull,
    drafts: work that someone began and never submitted.
    """

    labels: list[Label] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    ratings: list[Rating] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    annotations: int = 0
    fetched_tasks: int = 0


def add_up(returned: Returned, found: Sequence[Annotation], plan: Plan, tasks: Mapping[str, Task]) -> None:
    """Keep the latest annotation of each rater on each task, count all, and add the records they give."""
    kept, superseded = latest(found)
    returned.counts["superseded"] += superseded
    returned.annotations += len(found) + returned.counts["unknown task"]
    for annotation in kept:
        returned.counts[annotation.outcome] += 1
        if annotation.choice is not None:
            _add(returned, plan, tasks[annotation.uid], annotation, annotation.choice)


def _add(returned: Returned, plan: Plan, task: Task, annotation: Annotation, choice: str) -> None:
    returned.counts["accepted untouched"] += annotation.origin == "prediction"
    meaning = plan.screen.meaning[choice]
    who = (annotation.annotator, annotation.updated_at, annotation.lead_time)
    if plan.screen.kind == "rating":
        returned.ratings.append(Rating(task.uid, int(meaning), *who))
        return
    rest = {"annotator": who[0], "created_at": who[1], "lead_time": who[2], "origin": annotation.origin}
    if plan.screen.kind == "judgement":
        returned.labels.append(task.label(meaning, **rest))
    else:
        returned.comparisons.append(task.comparison(meaning, **rest))


def write_returned(folder: Folder, plan: Plan, returned: Returned) -> None:
    """Write `labels.jsonl` or `comparisons.jsonl`; ratings are left to the caller, who holds the key to them."""
    if plan.screen.kind == "judgement":
        write_records(folder.path / "labels.jsonl", returned.labels)
    elif plan.screen.kind == "comparison":
        write_records(folder.path / "comparisons.jsonl", returned.comparisons)
