"""A second round in Label Studio: tasks that were answered blind go up again, with that answer and a reward's reasons.

Label Studio has no step between two answers to one task. So the first ones are those of another labelling folder, whose
labels stay as they are; the second round has projects and a folder of its own.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from labeling.counting import plain
from labeling.critiques import Reasons
from labeling.folder import Folder, Plan, Task
from labeling.screens import Screen
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_object, write_json
from rlhf.foundation.records import Comparison, Label, read_comparisons, read_labels

FILE = "first.json"
WORDS = 4  # that are named for and against a text


class FirstRound(NamedTuple):
    """What was answered blind: the plan and tasks, and by rater and uid the choice on the screen."""

    plan: Plan
    tasks: dict[str, Task]
    choices: dict[str, dict[str, str]]


def read_first_round(folder: Folder) -> FirstRound:
    """The answers of a folder, of the raters who have a project there.

    Raises InputError where nobody has a project of their own, or nobody answered.
    """
    plan, tasks = folder.need_plan(), folder.read_tasks()
    raters = {project.rater for project in plan.projects} - {"", *plan.reviewers}
    if not raters or plan.screen.kind == "rating" or plan.screen.shows_reasons:
        raise InputError(
            f"--first_answers {folder.path}",
            got="blind ratings" if plan.screen.kind == "rating" else "no project for each rater, answered blind",
            expected="a folder that `rlhf label push --raters` sent",
            fix="for an offline page `rlhf label page --reasons` shows reasons after the first answer",
        )
    name = "comparisons.jsonl" if plan.screen.kind == "comparison" else "labels.jsonl"
    path = folder.path / name
    rows: Sequence[Label] | Sequence[Comparison] = []
    if path.exists() and path.stat().st_size:
        rows = read_comparisons(path) if plan.screen.kind == "comparison" else read_labels(path)
    choices: dict[str, dict[str, str]] = defaultdict(dict)
    for row in rows:
        if row.annotator in raters and row.uid in tasks:
            choices[row.annotator][row.uid] = _choice(row, tasks[row.uid], plan.screen)
    if not choices:
        raise InputError(str(path), got="no answer", expected="at least one", fix="run `rlhf label pull` there first")
    answered = {uid for mine in choices.values() for uid in mine}
    kept = {uid: dataclasses.replace(task, priority=None) for uid, task in tasks.items() if uid in answered}
    return FirstRound(plan, kept, dict(choices))


def _choice(row: Label | Comparison, task: Task, screen: Screen) -> str:
    """What stood on the screen for this answer; of several choices of one meaning the first."""
    meaning: str
    if isinstance(row, Label):
        meaning = row.label
    elif row.tie:
        meaning = "tie"
    else:
        shown_left = task.second if task.swapped else task.text
        meaning = "first" if plain(row.chosen) == plain(shown_left) else "second"
    return next(choice for choice in screen.choices if screen.meaning[choice] == meaning)


def second_screen(screen: Screen) -> Screen:
    """The same question with a field for the reasons."""
    return dataclasses.replace(screen, shows_reasons=True)


def reason_text(reasons: Reasons, choice: str) -> str:
    """What a rater reads: the own first answer, and of each text (as shown) score and words."""
    sides = ("Left: ", "Right: ") if len(reasons.scores) == 2 else ("",)
    what = "The reward model's score, and what it loses without each word, in the score's own unit:"
    lines = [f"You said {choice}. {what}"]
    for side, score, pieces in zip(sides, reasons.scores, reasons.pieces, strict=True):
        words = sorted(((piece.strip(), worth) for piece, worth in pieces if piece.strip()), key=lambda one: -one[1])
        up = [one for one in words if one[1] > 0.005][:WORDS]
        down = [one for one in words[::-1] if one[1] < -0.005][:WORDS]
        lines.append(f"{side}score {score:+.2f}; for: {_listed(up)}; against: {_listed(down)}")
    return "\n".join(lines)


def _listed(words: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{word} {worth:+.2f}" for word, worth in words) or "nothing"


def texts_of(first: FirstRound, reasons: Sequence[Reasons]) -> dict[str, dict[str, str]]:
    """By rater and uid what stands beside the task: the rater's own answer and the reasons."""
    shown = {one.uid: one.shown(swapped=first.tasks[one.uid].swapped) for one in reasons}
    return {
        rater: {uid: reason_text(shown[uid], choice) for uid, choice in mine.items()}
        for rater, mine in first.choices.items()
    }


def write_first(folder: Path, choices: Mapping[str, Mapping[str, str]]) -> None:
    """Keep the first answers with the second round's tasks."""
    write_json(folder / FILE, choices)


def read_first(folder: Path) -> dict[str, dict[str, str]]:
    """The first answers by rater and uid; {} in a folder that is no second round."""
    path = folder / FILE
    return read_object(path) if path.exists() else {}
