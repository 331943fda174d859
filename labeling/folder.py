"""The labelling folder: what only this side knows about the tasks that were handed out.

    project.json   the screen and the Label Studio projects
    tasks.jsonl    one row a task: its texts as shown, which side was swapped, its source, why it was chosen
    pulled.json    annotations as of the last pull, so that the next one fetches only what changed
    first.json     the blind first answers, where the tasks are a second round with reasons
    in_flight.json imports whose answer never came
    reasons.jsonl  what a reward model said of the tasks, shown by the offline page after a first answer
    answers/       files that the offline page saved, one a rater
    labels.jsonl or comparisons.jsonl   what came back
    labels.reference.jsonl or comparisons.reference.jsonl   answers that raters are measured by, a reviewer's above all

The source of a text, the reason it was chosen and the swap never leave this folder.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from labeling.chat import chat_turns
from labeling.pairs import Pair, with_first
from labeling.screens import NO_PROMPT, Screen
from labeling.server import locked
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_as, read_jsonl, read_object, write_json, write_jsonl
from rlhf.foundation.records import Comparison, Label, LabelName


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """One thing to be judged: a completion, or two of one prompt.

    `second` is None for a judgement. With `swapped` the second text is shown on the left. `source` and `second_source`
    are where the texts came from. `reason` says why the task was chosen; `priority` (0 to 1, None when the order does
    not matter) is low for what should come first.
    """

    uid: str
    prompt: str
    text: str
    second: str | None = None
    swapped: bool = False
    source: str = ""
    reason: str = ""
    priority: float | None = None
    second_source: str = ""

    def data(self, screen: Screen, *, shows_prompt: bool) -> dict[str, Any]:
        """The task's fields on the server: nothing but the texts and the opaque uid."""
        fields: dict[str, Any] = {"uid": self.uid}
        if screen.kind == "comparison":
            sides = (self.second, self.text) if self.swapped else (self.text, self.second)
            fields |= {"answer1": sides[0], "answer2": sides[1]}
        else:
            fields["text"] = self.text
        if shows_prompt:
            # Label Studio shows an empty text as an empty box, and waits for ever for a chat without turns.
            turns = chat_turns(self.prompt, screen.prompt_format) if self.prompt.strip() else []
            turns = turns or [{"role": "prompt", "content": NO_PROMPT}]
            fields |= {"prompt": turns[0]["content"]} if screen.prompt_format == "text" else {"turns": turns}
        return fields

    def label(self, meaning: str, before: str | None = None, **rest: Any) -> Label:
        """The label that an answer gives; `before` is the one given before the reasons, `rest` what else it has."""
        names: dict[str, LabelName] = {"positive": "positive", "neutral": "neutral", "negative": "negative"}
        first = names[before] if before is not None else None
        return Label(self.uid, self.prompt, self.text, names[meaning], first=first, **rest)

    def comparison(self, meaning: str, before: str | None = None, **rest: Any) -> Comparison:
        """The comparison that an answer (first, second, tie, as shown) gives, un-swapped.

        `before` is the answer that was given before the reasons were shown.
        """
        assert self.second is not None
        if before is not None:
            return with_first(self.comparison(meaning, **rest), self.comparison(before, **rest))
        shown = Pair(self.uid, self.prompt, *((self.second, self.text) if self.swapped else (self.text, self.second)))
        if meaning == "tie":  # the texts in their own order: a tie has no left and right
            return Pair(self.uid, self.prompt, self.text, self.second).answered("tie", **rest)
        return shown.answered("first" if meaning == "first" else "second", **rest)


@dataclasses.dataclass(frozen=True, slots=True)
class Project:
    """One Label Studio project of the folder; `rater` is "" when everyone works in it."""

    rater: str
    url: str
    id: int
    title: str


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What `project.json` holds; `packet` is the id of the offline page, "" when there is none.

    `server_dir` is the folder of the local server that the tasks went to, "" for the default one; `server_url` the
    address of a server of one's own, "" for a local one. `reviewers` are people whose answers others are measured by.
    """

    screen: Screen
    shows_prompt: bool
    title: str
    projects: tuple[Project, ...] = ()
    packet: str = ""
    server_dir: str = ""
    server_url: str = ""
    reviewers: tuple[str, ...] = ()


def _plan(row: Any) -> Plan:
    screen = Screen(**{**row["screen"], "choices": tuple(row["screen"]["choices"])})
    projects = tuple(Project(**project) for project in row["projects"])
    later = {"server_dir": row.get("server_dir", ""), "server_url": row.get("server_url", "")}
    reviewers = tuple(row.get("reviewers", ()))
    return Plan(screen, row["shows_prompt"], row["title"], projects, row["packet"], **later, reviewers=reviewers)


class Folder:
    """Reads and writes a labelling folder; every write is atomic."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Hold the folder. Raises InputError when another command does."""
        with locked(self.path / ".lock", "another `rlhf label` command works on this folder"):
            yield

    def read_plan(self) -> Plan | None:
        """The plan, or None before the first push."""
        path = self.path / "project.json"
        if not path.exists():
            return None
        return read_as(path, _plan)

    def need_plan(self) -> Plan:
        """The plan. Raises InputError when nothing was pushed from this folder."""
        plan = self.read_plan()
        if plan is None:
            raise InputError(
                str(self.path),
                got="no project.json",
                expected="a folder that `rlhf label push` made",
                fix="push samples first, or name the right --output_dir",
            )
        return plan

    def write_plan(self, plan: Plan) -> None:
        """Write the plan."""
        write_json(self.path / "project.json", dataclasses.asdict(plan))

    def with_reviewers(self, plan: Plan, names: Sequence[str]) -> Plan:
        """The plan with these reviewers beside those it has; written if they are new."""
        reviewers = tuple(dict.fromkeys((*plan.reviewers, *names)))
        if reviewers != plan.reviewers:
            plan = dataclasses.replace(plan, reviewers=reviewers)
            self.write_plan(plan)
        return plan

    def read_tasks(self) -> dict[str, Task]:
        """Tasks by uid; {} before the first push."""
        path = self.path / "tasks.jsonl"
        rows = read_jsonl(path) if path.exists() else []
        try:
            return {row["uid"]: Task(**row) for row in rows}
        except (TypeError, KeyError) as error:
            fix = "restore it from a copy"
            raise InputError(str(path), got="a row of another shape", expected="tasks as pushed", fix=fix) from error

    def write_tasks(self, tasks: Iterable[Task]) -> None:
        """Write the tasks."""
        write_jsonl(self.path / "tasks.jsonl", (dataclasses.asdict(task) for task in tasks))

    def note_in_flight(self, project: int, uids: Iterable[str]) -> None:
        """Remember an import into `project` that is about to be sent; with no uids, that its answer came."""
        noted = self._in_flight()
        listed = list(uids)
        if listed:
            noted[str(project)] = {"uids": listed, "at": time.time()}
        elif noted.pop(str(project), None) is None:
            return
        write_json(self.path / "in_flight.json", noted)

    def read_in_flight(self, project: int) -> tuple[set[str], float]:
        """Uids of an import into `project` that was never answered, and when it was sent (Unix seconds)."""
        row = self._in_flight().get(str(project))
        return (set(row["uids"]), float(row["at"])) if row else (set(), 0.0)

    def _in_flight(self) -> dict[str, Any]:
        path = self.path / "in_flight.json"
        return read_object(path) if path.exists() else {}
