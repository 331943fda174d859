"""Tasks go up, each uid once, whatever breaks on the way.

The server never deduplicates, and a request may be committed after its sender died. So:
1. Before an import its uids are noted on disk; a later run waits until they have appeared, or long enough.
2. An import is sent once. If its outcome is unknown, the uids are listed before anything is sent again.
3. After each import the new tasks are listed, and of two tasks with one uid the younger is removed if nobody
   has worked on it (else the elder; if people worked on both, both stay and are counted).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from labeling.folder import Folder, Task
from labeling.screens import Screen
from labeling.studio import Listed, Studio, Uncertain
from rlhf.foundation.errors import InputError

CHUNK = 500
SETTLE_SECONDS = 15.0
POLL_SECONDS = 0.5
ATTEMPTS = 5


@dataclass(slots=True)
class Pushed:
    """What a push did to one project."""

    created: int = 0
    present: int = 0
    twins_removed: int = 0
    twins_labelled: int = 0
    uncertain_imports: int = 0


@dataclass(slots=True)
class _Seen:
    """What is known of a project's tasks: the listing is read from the last id on, never from the start again."""

    studio: Studio
    project: int
    kept: dict[str, Listed] = field(default_factory=dict)
    last: int = 0

    def look(self, pushed: Pushed) -> None:
        """List what is new and remove twins."""
        for task in self.studio.list_tasks(self.project, after=self.last):
            self.last = max(self.last, task.id)
            if task.uid is None:
                continue
            elder = self.kept.get(task.uid)
            if elder is None:
                self.kept[task.uid] = task
                continue
            if self.studio.is_untouched(task.id):
                self.studio.delete_task(task.id)
                pushed.twins_removed += 1
            elif self.studio.is_untouched(elder.id):
                self.studio.delete_task(elder.id)
                self.kept[task.uid] = task
                pushed.twins_removed += 1
            else:
                pushed.twins_labelled += 1

    def wait_for(self, uids: set[str], seconds: float, pushed: Pushed) -> None:
        """Look until all of `uids` are there or `seconds` have passed: a server may still be committing."""
        deadline = time.monotonic() + seconds
        self.look(pushed)
        while not uids <= self.kept.keys() and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            self.look(pushed)


def push_tasks(
    studio: Studio,
    project: int,
    tasks: Sequence[Task],
    *,
    folder: Folder,
    screen: Screen,
    shows_prompt: bool,
    scores_version: str = "",
    chunk: int = CHUNK,
    settle_seconds: float = SETTLE_SECONDS,
    reasons: Mapping[str, str] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Pushed:
    """Bring the tasks that `project` lacks up to it, in their order; `progress` gets the number of new ones.

    With `scores_version`, each task's priority goes up as a prediction without a result: it orders, and there is
    nothing in it that a person could see. `reasons` stand beside each task, by its uid. Raises InputError when the
    server refuses, or fails five times running; then the same command takes up where it stopped.
    """
    pushed = Pushed()
    seen = _Seen(studio, project)
    in_flight, sent_at = folder.read_in_flight(project)
    seen.wait_for(in_flight, settle_seconds - (time.time() - sent_at) if in_flight else 0.0, pushed)
    folder.note_in_flight(project, [])
    wanted = [task for task in tasks if task.uid not in seen.kept]
    pushed.present = len(tasks) - len(wanted)
    present = {task.uid: task for task in tasks if task.uid in seen.kept}
    failures = 0
    while missing := [task for task in wanted if task.uid not in seen.kept]:
        batch = missing[:chunk]
        uids = {task.uid for task in batch}
        folder.note_in_flight(project, uids)
        try:
            studio.import_tasks(
                project, [_row(task, screen, shows_prompt, scores_version, reasons or {}) for task in batch]
            )
            failures = 0
        except Uncertain as error:
            failures += 1
            pushed.uncertain_imports += 1
            seen.wait_for(uids, settle_seconds, pushed)
            if uids <= seen.kept.keys():
                failures = 0
            if failures == ATTEMPTS:
                raise _gave_up(studio, project, error, len(missing)) from None
        seen.look(pushed)
        folder.note_in_flight(project, [])
        pushed.created = sum(task.uid in seen.kept for task in wanted)
        progress(pushed.created)
    if scores_version and studio.scores_version(project) != scores_version:
        _rescore(studio, project, seen.kept, present, scores_version)
    return pushed


def _row(
    task: Task, screen: Screen, shows_prompt: bool, scores_version: str, reasons: Mapping[str, str]
) -> dict[str, object]:
    beside = {"reasons": reasons[task.uid]} if screen.shows_reasons else {}
    row: dict[str, object] = {"data": task.data(screen, shows_prompt=shows_prompt) | beside}
    if scores_version and task.priority is not None:
        row["predictions"] = [{"result": [], "score": task.priority, "model_version": scores_version}]
    return row


def _rescore(
    studio: Studio, project: int, kept: Mapping[str, Listed], present: Mapping[str, Task], version: str
) -> None:
    """Score the tasks that were there before, then let the project follow this version and no other."""
    scores = {kept[uid].id: task.priority for uid, task in present.items() if task.priority is not None}
    ids = list(scores)
    for start in range(0, len(ids), CHUNK):
        for attempt in range(1, ATTEMPTS + 1):
            try:
                studio.import_scores(project, {id: scores[id] for id in ids[start : start + CHUNK]}, version)
                break
            except Uncertain as error:
                if attempt == ATTEMPTS:
                    raise _gave_up(studio, project, error, len(ids) - start) from None
    studio.order_by_priority(project, version)


def _gave_up(studio: Studio, project: int, error: Uncertain, left: int) -> InputError:
    return InputError(
        f"importing into project {project} at {studio.url}",
        got=f"{ATTEMPTS} failures running, the last: {error}",
        expected="imports that are answered",
        fix=f"look at the server, then run the same command again: it will send the {left} tasks that are missing",
    )
