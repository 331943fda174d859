"""Simulated annotators through the real server: they annotate as users, so that the whole path runs unattended."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping

from labeling.by_rule import simulate_answers, simulate_labels
from labeling.folder import Plan, Project, Task
from labeling.pairs import Pair
from labeling.screens import Screen
from labeling.studio import Studio, Uncertain
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import LabelName, Sample

NAMESPACE = uuid.UUID("6f1c7a52-40b7-4b0e-9d43-6a7bd6f7a001")
ATTEMPTS = 5


def result_of(screen: Screen, choice: str) -> list[dict[str, object]]:
    """The result that the browser would send for a choice."""
    value = {"choices": [choice]}
    return [{"from_name": screen.control, "to_name": screen.target, "type": "choices", "value": value}]


def annotate_as(
    studio: Studio,
    project: Project,
    plan: Plan,
    meanings: Mapping[str, str],
    *,
    lead_time: float = 2.0,
    progress: Callable[[int], None] = lambda done: None,
) -> int:
    """Answer every task of `meanings` (uid to meaning, as shown) as the connection's user; the number answered.

    Each annotation carries a UUID made of project, rater and uid, so that a repeat after a fault is refused by the
    server instead of doubled. `lead_time` in seconds.
    """
    choice_of = {meaning: choice for choice, meaning in plan.screen.meaning.items()}
    if mute := set(meanings.values()) - choice_of.keys():
        raise InputError(
            f"project {project.id}",
            got=f"no choice that means {', '.join(sorted(mute))}",
            expected="a choice for every answer of the rule",
            fix="push with --choices and --map that have one",
        )
    done = 0
    for task in studio.list_tasks(project.id):
        if task.uid is not None and task.uid in meanings:
            result = result_of(plan.screen, choice_of[meanings[task.uid]])
            unique = str(uuid.uuid5(NAMESPACE, f"{studio.url} {project.id} {project.rater} {task.uid}"))
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    studio.annotate(task.id, result, lead_time=lead_time, unique_id=unique)
                    break
                except Uncertain:
                    if attempt == ATTEMPTS:
                        raise
            done += 1
            progress(done)
    return done


def simulated_judgements(
    tasks: Mapping[str, Task], judge: Callable[[str, str], LabelName], *, annotator: str, noise: float, seed: int
) -> dict[str, str]:
    """One annotator's answers to judgements by rule: uid to label, an exact share of them wrong.

    `judge` gets completion and prompt. Raises InputError when `noise` is outside [0, 1].
    """
    samples = [Sample(task.uid, task.prompt, task.text, "simulated") for task in tasks.values()]
    labels = simulate_labels(samples, judge, annotator=annotator, noise=noise, seed=seed)
    return {label.uid: label.label for label in labels}


def simulated_comparisons(
    tasks: Mapping[str, Task], score: Callable[[str, str], float], *, annotator: str, noise: float, seed: int
) -> dict[str, str]:
    """One annotator's answers to comparisons by rule, as shown: uid to first (left), second or tie.

    `score` gets completion and prompt; equal scores tie. Raises InputError when `noise` is outside [0, 1].
    """
    pairs = [Pair(t.uid, t.prompt, t.text, t.second) for t in tasks.values() if t.second is not None]
    answers = simulate_answers(pairs, score, annotator=annotator, noise=noise, seed=seed)
    other = {"first": "second", "second": "first", "tie": "tie"}
    return {
        pair.uid: other[answer] if tasks[pair.uid].swapped else answer
        for pair, answer in zip(pairs, answers, strict=True)
    }
