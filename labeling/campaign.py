"""From samples to tasks in their projects: planned on disk first, so that every later step can be repeated."""

from __future__ import annotations

import dataclasses
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from labeling.chat import chat_turns, clean_prompt
from labeling.cleaning import MAX_CHARACTERS, Cleaned, clean_text, count_changes
from labeling.folder import Folder, Plan, Project, Task
from labeling.pairs import Pair, fraction
from labeling.screens import Screen, config_differences, label_config
from labeling.selection import Selected
from labeling.sending import CHUNK, SETTLE_SECONDS, Pushed, push_tasks
from labeling.studio import Studio
from rlhf.foundation.conversation import prompt_from_text
from rlhf.foundation.errors import InputError
from rlhf.foundation.lazy import Lazy
from rlhf.foundation.records import Sample, content_uid


class Judgements:
    """What makes tasks of samples that pass one by one: of each that can be shown its place and uid are kept.

    `counts` says what was changed or refused; `conversation` whether a prompt is one.
    """

    def __init__(self, max_characters: int = MAX_CHARACTERS) -> None:
        self.max_characters = max_characters
        self.uids: list[str] = []
        self.counts: Counter[str] = Counter()
        self.conversation = False
        self._places = array("q")
        self._passed = 0

    def add(self, sample: Sample) -> None:
        """The next sample. Raises InputError."""
        text, prompt = self._cleaned(sample)
        self.counts.update(count_changes([text, prompt]))
        self.conversation = self.conversation or not isinstance(prompt_from_text(sample.prompt), str)
        if not text.refused:
            self._places.append(self._passed)
            self.uids.append(sample.uid)
        self._passed += 1

    def tasks(self, samples: Sequence[Sample]) -> Lazy[Task]:
        """A task that shows one sample, for each that can be shown, made when it is looked at."""
        return Lazy(lambda place: self._task(samples[place]), self._places)

    def _task(self, sample: Sample) -> Task:
        text, prompt = self._cleaned(sample)
        return Task(sample.uid, prompt.text, text.text, source=sample.source)

    def _cleaned(self, sample: Sample) -> tuple[Cleaned, Cleaned]:
        text = clean_text(sample.completion, max_characters=self.max_characters)
        return text, clean_prompt(sample.prompt, max_characters=self.max_characters)


def judgement_tasks(
    samples: Sequence[Sample], *, max_characters: int = MAX_CHARACTERS
) -> tuple[list[Task], Counter[str]]:
    """Tasks that show one sample each, cleaned, and counts of what was changed or refused. Raises InputError."""
    made = Judgements(max_characters)
    for sample in samples:
        made.add(sample)
    return list(made.tasks(samples)), made.counts


def comparison_tasks(
    pairs: Sequence[Pair],
    *,
    seed: int,
    max_characters: int = MAX_CHARACTERS,
) -> tuple[list[Task], Counter[str]]:
    """Tasks that show two completions side by side, swapped by a coin keyed by (seed, uid); counts as above."""
    tasks, all_cleaned = [], []
    for pair in pairs:
        first, second = (clean_text(text, max_characters=max_characters) for text in (pair.first, pair.second))
        prompt = clean_prompt(pair.prompt, max_characters=max_characters)
        all_cleaned += [first, second, prompt]
        if not first.refused and not second.refused:
            swapped = fraction("side", seed, pair.uid) < 0.5
            one, two = pair.sources
            task = Task(pair.uid, prompt.text, first.text, second.text, swapped, source=one, second_source=two)
            tasks.append(task)
    return tasks, count_changes(all_cleaned)


def mix_in(tasks: Sequence[Task], snippets: Sequence[str], *, share: float, seed: int) -> list[Task]:
    """Corpus snippets among the tasks, so that they make `share` of the whole; only the folder knows which.

    The number is round(share / (1 - share) x n). Raises InputError when `share` is outside [0, 1), the corpus has too
    few snippets, or raters could tell a snippet at sight: it has no prompt and no second text.
    """
    if any(task.second is not None for task in tasks) or (tasks and all(task.prompt.strip() for task in tasks)):
        raise InputError(
            "--mix_corpus",
            got="comparisons" if tasks[0].second is not None else "samples that all have prompts",
            expected="judgements of unconditional samples, among which a passage does not stand out",
            fix="leave out --mix_corpus, or sample without prompts",
        )
    if not 0.0 <= share < 1.0:
        raise InputError("--mix_share", got=share, expected="a share of at least 0 and below 1", fix="for example 0.2")
    wanted = round(share / (1.0 - share) * len(tasks))
    usable = {text for snippet in snippets if (text := clean_text(snippet).text.strip())}
    if len(usable) < wanted:
        raise InputError(
            "--mix_corpus",
            got=f"{len(usable)} different snippets",
            expected=f"at least {wanted}",
            fix="give a longer corpus or a smaller --mix_share",
        )
    # Keyed by seed and text, so that pushing again after a crash mixes in the same snippets under the same uids.
    chosen = sorted(usable, key=lambda text: fraction("mix", seed, text))[:wanted]
    mixed = [*tasks, *(Task(content_uid(text), "", text, source="corpus") for text in chosen)]
    return sorted(mixed, key=lambda task: fraction("order", seed, task.uid))


def chosen_tasks(tasks: Sequence[Task], uids: Sequence[str], chosen: Sequence[Selected]) -> list[Task]:
    """The tasks (of these uids) that were selected, in the order of selection, each with its reason and priority."""
    wanted = {one.uid for one in chosen}
    places = {uid: place for place, uid in enumerate(uids) if uid in wanted}
    return [dataclasses.replace(tasks[places[one.uid]], reason=one.reason, priority=one.priority) for one in chosen]


def plan_tasks(folder: Folder, screen: Screen, title: str, new: Sequence[Task]) -> tuple[Plan, list[Task]]:
    """Join new tasks to those of the folder and write both files; tasks that are there keep their swap and source.

    Raises InputError when the folder holds another screen or title, or a prompt is not of the screen's form.
    """
    for task in new:
        if task.prompt and screen.prompt_format != "text":
            chat_turns(task.prompt, screen.prompt_format)
    plan = folder.read_plan()
    if plan is None:
        plan = Plan(screen, any(task.prompt for task in new), title)
    elif plan.screen != screen or plan.title != title:
        what = "title" if plan.title != title else "question or choices"
        raise InputError(
            str(folder.path),
            got=f"another {what} than this folder's ('{plan.title}', '{plan.screen.question}')",
            expected="one campaign a folder",
            fix="choose another --output_dir",
        )
    elif any(task.prompt for task in new) and not plan.shows_prompt:
        raise InputError(
            str(folder.path),
            got="samples with prompts",
            expected="samples without, as the first ones of this folder",
            fix="choose another --output_dir",
        )
    known = folder.read_tasks()
    _require_same_texts(folder, known, new)
    joined = {task.uid: task for task in new}
    for uid, task in known.items():
        priority = joined[uid].priority if uid in joined else task.priority
        joined[uid] = dataclasses.replace(task, priority=priority)
    order = [*known, *(task.uid for task in new if task.uid not in known)]
    tasks = [joined[uid] for uid in order]
    folder.write_tasks(tasks)
    folder.write_plan(plan)
    return plan, tasks


def _require_same_texts(folder: Folder, known: Mapping[str, Task], new: Sequence[Task]) -> None:
    """Raise InputError when a uid that was handed out now stands for other texts: its answers are about the old."""
    changed = [
        task.uid
        for task in new
        if (old := known.get(task.uid))
        and (old.prompt, {old.text, old.second}) != (task.prompt, {task.text, task.second})
    ]
    if changed:
        raise InputError(
            str(folder.path),
            got=f"another text for {changed[0]!r}" + (f" and {len(changed) - 1} more uids" if changed[1:] else ""),
            expected="the texts that were handed out under these uids",
            fix="give changed samples new uids, or choose another --output_dir",
        )


def find_or_make_project(studio: Studio, plan: Plan, rater: str, *, by_priority: bool) -> Project:
    """The rater's project: the one in the plan, else the one of its title, else a new one.

    Raises InputError when two projects have that title, or the one found asks something else.
    """
    title = f"{plan.title} ({rater})" if rater else plan.title
    config = label_config(plan.screen, shows_prompt=plan.shows_prompt)
    for project in plan.projects:
        if project.rater == rater:
            return dataclasses.replace(project, url=studio.url)  # a local server may have come back on another port
    found = studio.find_projects(title)
    if len(found) > 1:
        raise InputError(
            f"project '{title}' at {studio.url}",
            got=f"{len(found)} projects of that title (ids {', '.join(map(str, found))})",
            expected="one",
            fix="rename one of them, or choose another --title",
        )
    if not found:
        id = studio.create_project(title, config, instruction=plan.screen.question, by_priority=by_priority)
        return Project(rater, studio.url, id, title)
    if differences := config_differences(config, studio.project(found[0])[1]):
        raise InputError(
            f"project '{title}' at {studio.url}",
            got="; ".join(differences),
            expected="the question and choices of this push",
            fix="choose another --title",
        )
    return Project(rater, studio.url, found[0], title)


def push_all(
    folder: Folder,
    plan: Plan,
    tasks: Sequence[Task],
    raters: Sequence[str],
    connect: Callable[[str], Studio],
    *,
    check: Callable[[Studio, Project, Plan], None],
    scores_version: str = "",
    chunk: int = CHUNK,
    settle_seconds: float = SETTLE_SECONDS,
    reasons: Mapping[str, Mapping[str, str]] | None = None,
    progress: Callable[[str, int], None] = lambda rater, done: None,
) -> Mapping[str, Pushed]:
    """Push every task to each rater's project ("" is the one project of all); what happened, by rater.

    The plan is written as soon as a project exists. `connect` gives the connection of a rater; `check` compares a
    project with the plan before anything is sent. With `reasons` (by rater and uid) a rater gets the tasks that have
    some, and these beside them.
    """
    if plan.packet:
        raise InputError(
            str(folder.path),
            got="a folder that `rlhf label page` made",
            expected="a folder of its own for Label Studio",
            fix="choose another --output_dir",
        )
    done: dict[str, Pushed] = {}
    for rater in raters:
        studio = connect(rater)
        project = find_or_make_project(studio, plan, rater, by_priority=bool(scores_version))
        if project not in plan.projects:
            known = {one.rater: one for one in plan.projects} | {rater: project}
            plan = dataclasses.replace(plan, projects=tuple(known.values()))
            folder.write_plan(plan)
        check(studio, project, plan)
        done[rater] = push_tasks(
            studio,
            project.id,
            tasks if reasons is None else [task for task in tasks if task.uid in reasons[rater]],
            folder=folder,
            screen=plan.screen,
            shows_prompt=plan.shows_prompt,
            scores_version=scores_version,
            chunk=chunk,
            settle_seconds=settle_seconds,
            reasons=None if reasons is None else reasons[rater],
            progress=lambda n, rater=rater: progress(rater, n),  # type: ignore[misc]
        )
    return done
