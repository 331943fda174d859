"""Annotations come back: all of them, or what changed since the last pull, with the same result to the byte.

A task's `updated_at` moves when one of its annotations is made, changed or deleted. So a pull lists every task (a
light listing), exports those whose `updated_at` differs from the one it remembers, and builds the labels anew from
everything it knows. A deleted task is missing from the listing; it goes.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labeling.annotations import Annotation, read_item, read_items
from labeling.folder import Folder, Plan, Project, Task
from labeling.returned import Returned, add_up, write_returned
from labeling.screens import config_differences, label_config
from labeling.second_round import read_first
from labeling.studio import Listed, Studio
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_object, write_json


@dataclass(slots=True)
class _Known:
    """What is remembered of one task: when it last changed, its annotations, its drafts."""

    updated_at: str
    annotations: list[Annotation]
    counts: dict[str, int]


def check_config(studio: Studio, project: Project, plan: Plan) -> None:
    """Compare the project's label configuration with ours. Raises InputError that names what was changed."""
    title, config = studio.project(project.id)
    place = f"project {project.id} '{project.title}' at {studio.url}"
    if title != project.title:
        raise InputError(
            place,
            got=f"a project titled '{title}'",
            expected="the project that was pushed",
            fix="check the server's address, or give the project its title back",
        )
    differences = config_differences(label_config(plan.screen, shows_prompt=plan.shows_prompt), config)
    if differences:
        raise InputError(
            f"label configuration of {place}",
            got="; ".join(differences),
            expected="the configuration that was pushed",
            fix="undo the change in the project's Settings > Labeling Interface; annotations made meanwhile stay",
        )


def fetch(
    folder: Folder,
    connect: Callable[[Project], Studio],
    *,
    full: bool = False,
    reviewers: Sequence[str] = (),
    progress: Callable[[int], None] = lambda done: None,
) -> Returned:
    """Fetch what changed (or everything, with `full`) and write `labels.jsonl` or `comparisons.jsonl`.

    `connect` gives the connection to a project of the folder; `progress` gets the number of tasks fetched. The answers
    of `reviewers`, whom the folder remembers, are references. Ratings are returned, not written. Raises InputError; the
    files of the last pull then stand as they were.
    """
    plan, tasks = folder.need_plan(), folder.read_tasks()
    if not plan.projects:
        raise InputError(
            str(folder.path),
            got="nothing that reached a server",
            expected="tasks in Label Studio",
            fix="start the server and push again; for an offline page give the raters' files, --answers",
        )
    plan = folder.with_reviewers(plan, reviewers)
    remembered = {} if full else _read_known(folder)
    known: dict[str, dict[str, _Known]] = {}
    pulled = Returned()
    found: list[Annotation] = []
    for project in plan.projects:
        studio = connect(project)
        check_config(studio, project, plan)
        place = f"{project.rater} {project.id}".strip()
        mine = _update(studio, project, plan, tasks, remembered.get(place, {}), pulled, progress, full)
        known[place] = mine
        found += of_rater([one for task in mine.values() for one in task.annotations], project, studio)
        for task in mine.values():
            pulled.counts.update(task.counts)
    if first := read_first(folder.path):
        found = [dataclasses.replace(one, first=first.get(one.annotator, {}).get(one.uid)) for one in found]
    add_up(pulled, found, plan, tasks)
    _write_known(folder, known)
    write_returned(folder, plan, pulled, tasks)
    return pulled


def _update(
    studio: Studio,
    project: Project,
    plan: Plan,
    tasks: Mapping[str, Task],
    remembered: Mapping[str, _Known],
    pulled: Returned,
    progress: Callable[[int], None],
    full: bool,
) -> dict[str, _Known]:
    """What is known of each task now, by task id.

    Drafts are counted by a full pull alone and not remembered: a task's `updated_at` does not move with them.
    """
    listed = studio.list_tasks(project.id)
    pulled.counts["gone tasks"] += len(remembered.keys() - {str(task.id) for task in listed})
    uids = Counter(task.uid for task in listed if task.uid is not None)
    pulled.counts["twin tasks"] += sum(n - 1 for n in uids.values())
    changed = [t for t in listed if str(t.id) not in remembered or remembered[str(t.id)].updated_at != t.updated_at]
    items = _fetch(studio, project.id, changed, len(listed), unannotated=full)
    pulled.fetched_tasks += len(changed)
    progress(len(changed))
    users = studio.users() if any(item.get("annotations") for item in items.values()) else {}
    known: dict[str, _Known] = {}
    is_changed = {task.id for task in changed}
    for task in listed:
        if task.id not in is_changed:
            known[str(task.id)] = remembered[str(task.id)]
            continue
        uid = task.uid if task.uid in tasks else None
        place = f"task {task.id} of project {project.id} at {studio.url}"
        annotations, counts = read_items(
            [read_item(items[task.id], place)] if task.id in items else [],
            uid_of=lambda item, uid=uid: uid,  # type: ignore[misc]
            annotator_of=lambda by, place: annotator_name(by, users),
            control=plan.screen.control,
            choices=plan.screen.choices,
        )
        drafts = counts.pop("draft", 0)
        pulled.counts["draft"] += drafts if full else 0
        known[str(task.id)] = _Known(task.updated_at, annotations, {k: n for k, n in counts.items() if n})
    return known


def _fetch(
    studio: Studio, project: int, changed: Sequence[Listed], listed: int, *, unannotated: bool
) -> dict[int, dict[str, Any]]:
    """Export items of the changed tasks; one download of everything when more than half of it changed."""
    if 2 * len(changed) > listed:
        items = studio.export(project, unannotated=unannotated)
    else:
        items = studio.export(project, [task.id for task in changed]) if changed else []
    wanted = {task.id for task in changed}
    return {int(item["id"]): item for item in items if int(item["id"]) in wanted}


def task_addresses(folder: Folder) -> dict[str, dict[str, str]]:
    """uid -> annotator -> where that answer stands on the server, as of the last pull; {} for an offline page."""
    known, found = _read_known(folder), defaultdict[str, dict[str, str]](dict)
    for project in folder.need_plan().projects:
        for number, task in known.get(f"{project.rater} {project.id}".strip(), {}).items():
            for answer in task.annotations:
                found[answer.uid][project.rater or answer.annotator] = (
                    f"{project.url}/projects/{project.id}/data?task={number}"
                )
    return dict(found)


def of_rater(annotations: Sequence[Annotation], project: Project, studio: Studio) -> list[Annotation]:
    """The annotations of a rater's own project under the rater's name; what others left there is kept apart.

    The rater is who has that name as user or local part of the e-mail. On a server with one account for all raters
    (`connection.connect`) nobody may have it: then it is the one other person who answered, else the account itself.
    """
    names = {one.annotator for one in annotations}
    own = {name for name in names if name.split("@")[0] == project.rater}
    if not project.rater:
        return list(annotations)
    if names and not own and (account := studio.whoami().split("@")[0]) != project.rater:
        others = {name for name in names if name.split("@")[0] != account}
        if len(others) > 1:  # nobody knows who of them is meant: each stays who they are
            return list(annotations)
        own = others or names
    return [
        dataclasses.replace(one, annotator=project.rater)
        if one.annotator in own
        else dataclasses.replace(one, ground_truth=True)
        for one in annotations
    ]


def annotator_name(completed_by: Any, users: Mapping[int, str]) -> str:
    """A name for `completed_by`: the e-mail's local part if it is alone in having it, else the whole address."""
    by = completed_by.get("id") if isinstance(completed_by, Mapping) else completed_by
    number = by if isinstance(by, int) else 0
    if number not in users:
        return f"user-{number}"
    email = users[number]
    local = email.split("@")[0]
    return local if sum(other.split("@")[0] == local for other in users.values()) == 1 else email


def _read_known(folder: Folder) -> dict[str, dict[str, _Known]]:
    """What the last pull left; nothing if another version wrote it, and then all is fetched again."""
    path = folder.path / "pulled.json"
    try:
        return {
            place: {
                id: _Known(row["updated_at"], [Annotation(**a) for a in row["annotations"]], row["counts"])
                for id, row in tasks.items()
            }
            for place, tasks in (read_object(path) if path.exists() else {}).items()
        }
    except (TypeError, KeyError, AttributeError):
        return {}


def _write_known(folder: Folder, known: Mapping[str, Mapping[str, _Known]]) -> None:
    rows = {place: {id: dataclasses.asdict(task) for id, task in tasks.items()} for place, tasks in known.items()}
    write_json(folder.path / "pulled.json", rows)
