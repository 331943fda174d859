"""The files that people save from an offline page and send back: every one is kept, and together they are the answers.

A page's session is one browser's work on it. A file saved later in a session holds what the earlier ones hold, less
what was undone; files of other sessions are added, and the later of two answers to one text wins.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labeling.annotations import Annotation
from labeling.folder import Folder, Task
from labeling.returned import Returned, add_up, write_returned
from labeling.screens import Screen
from rlhf.foundation.cells import read_seconds
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import json_line, read_json, write_json
from rlhf.foundation.moments import instant
from rlhf.foundation.records import content_uid, is_name
from rlhf.foundation.terminal import shown


@dataclass(frozen=True, slots=True)
class Saved:
    """A file as a page saved it; pages of earlier versions gave neither session nor `saved_at`."""

    packet: str
    annotator: str
    session: str
    saved_at: str
    answers: tuple[Mapping[str, Any], ...]

    @property
    def row(self) -> dict[str, object]:
        """The file's content, without anything that is not of the page."""
        return {name: getattr(self, name) for name in self.__slots__}

    @property
    def name(self) -> str:
        """A name for the copy that is kept: the same content has the same."""
        return content_uid(json_line(self.row))


def read_answers(path: Path, *, packet: str) -> Saved:
    """A file that a page saved, every field checked. Raises InputError for one of another packet or shape."""
    row = read_json(path)
    if not isinstance(row, dict) or not isinstance(row.get("answers"), list):
        raise InputError(
            str(path), got="JSON of another shape", expected="a file that the page saved", fix="save it again"
        )
    if row.get("packet") != packet:
        raise InputError(
            str(path),
            got=f"answers to packet {str(row.get('packet'))[:40]}",
            expected=f"answers to packet {packet}",
            fix="name the --output_dir that this page came from",
        )
    annotator = _word(row, "annotator", str(path)).strip()
    if not is_name(annotator):
        got = shown(repr(annotator), 80) if annotator else "no annotator"
        raise _shape(f"{path}, annotator", got, "a name of 1 to 200 characters on one line")
    session, saved_at = _word(row, "session", str(path)), _word(row, "saved_at", str(path))
    instant(saved_at, f"{path}, saved_at")
    answers = tuple(_answer(one, f"{path}, answer {i}") for i, one in enumerate(row["answers"], start=1))
    return Saved(packet, annotator, session, saved_at, answers)


def _answer(one: Any, place: str) -> dict[str, Any]:
    if not isinstance(one, dict):
        raise _shape(place, f"{one!r}"[:60], "an object with uid, choice, lead_time, at")
    uid, at = _word(one, "uid", place), _word(one, "at", place)
    choice = None if one.get("choice") is None else _word(one, "choice", place)
    instant(at, f"{place}, at")
    read = {"uid": uid, "choice": choice, "lead_time": read_seconds(one.get("lead_time"), place), "at": at}
    if one.get("first") is None:
        return read
    seconds = read_seconds(one.get("first_lead_time"), f"{place}, first_lead_time")
    return {**read, "first": _word(one, "first", place), "first_lead_time": seconds}


def _word(row: Mapping[str, Any], name: str, place: str) -> str:
    value = row.get(name, "")
    if not isinstance(value, str):
        raise _shape(f"{place}, {name}", f"{value!r}"[:60], "a text")
    return value


def _shape(place: str, got: str, expected: str) -> InputError:
    return InputError(place, got=got, expected=expected, fix="ask the rater to save the file again")


def collect(folder: Folder, files: Sequence[Path], *, reviewers: Sequence[str] = ()) -> Returned:
    """Take in files that the page saved, keep a copy of each, and write the labels of all raters so far.

    Every file is read before anything is written, and no file replaces another. The answers of `reviewers`, whom the
    folder remembers, are references. Raises InputError.
    """
    plan, tasks = folder.need_plan(), folder.read_tasks()
    if not plan.packet:
        raise InputError(
            str(folder.path),
            got="a folder of Label Studio's",
            expected="a folder that `rlhf label page` made",
            fix="name the page's --output_dir",
        )
    kept = folder.path / "answers"
    for one in [read_answers(file, packet=plan.packet) for file in files]:
        write_json(kept / f"{one.name}.json", one.row)
    saved = [read_answers(path, packet=plan.packet) for path in sorted(kept.glob("*.json"))]
    plan = folder.with_reviewers(plan, reviewers)
    returned = Returned()
    current = _current(saved, returned)
    returned.notes += [*_contradictions(current), *_shared_browsers(current)]
    add_up(returned, _annotations(current, plan.screen, tasks, returned), plan, tasks)
    write_returned(folder, plan, returned, tasks)
    return returned


def _current(saved: Sequence[Saved], returned: Returned) -> list[Saved]:
    """The last file of each session and name, and all files without a session; counts answers that were undone."""
    sessions: dict[tuple[str, str], list[Saved]] = defaultdict(list)
    for one in saved:
        sessions[one.annotator, one.session or one.name].append(one)
    current = []
    for files in sessions.values():
        last = max(files, key=lambda one: (instant(one.saved_at, "saved_at"), len(one.answers), one.name))
        uids = {answer["uid"] for answer in last.answers}
        undone = {answer["uid"] for one in files for answer in one.answers} - uids
        returned.counts["undone in a later file"] += len(undone)
        current.append(last)
    return current


def _annotations(
    current: Sequence[Saved], screen: Screen, tasks: Mapping[str, Task], returned: Returned
) -> list[Annotation]:
    """Each answer once, however many files hold it; those about tasks that are not ours are counted."""
    found: dict[tuple[object, ...], Annotation] = {}
    for one in current:
        for number, answer in enumerate(one.answers, start=1):
            if answer["uid"] not in tasks:
                returned.counts["unknown task"] += 1
                continue
            key = (answer["uid"], one.annotator, answer["choice"], answer["at"])
            found.setdefault(key, _annotation(answer, number, one.annotator, screen))
    return list(found.values())


def _annotation(answer: Mapping[str, Any], number: int, annotator: str, screen: Screen) -> Annotation:
    choice = answer["choice"]
    known = choice in screen.choices
    return Annotation(
        uid=answer["uid"],
        annotator=annotator,
        outcome="labelled" if known else "skipped" if choice is None else "unknown choice",
        choice=choice if known else None,
        updated_at=answer["at"],
        number=number,
        lead_time=answer["lead_time"],
        origin="manual",
        first=answer.get("first"),
    )


def _choices(one: Saved) -> dict[str, Any]:
    return {answer["uid"]: answer["choice"] for answer in one.answers}


def _contradictions(current: Sequence[Saved]) -> list[str]:
    """A sentence about each name under which two browsers answered a text differently."""
    notes = []
    for name in sorted({one.annotator for one in current}):
        said: dict[str, set[Any]] = defaultdict(set)
        for one in current:
            for uid, choice in _choices(one).items() if one.annotator == name else ():
                said[uid].add(choice)
        differ = sum(len(choices) > 1 for choices in said.values())
        if differ:
            notes.append(f"{name!r} answered {differ} texts differently in files of different browsers: the later "
                         "answer counts; if these are two people, let one of them save under another name")  # fmt: skip
    return notes


def _shared_browsers(current: Sequence[Saved]) -> list[str]:
    """A sentence about answers that one browser saved under two names: they count for both."""
    notes, first = [], dict[str, Saved]()
    for one in sorted(current, key=lambda one: (one.session, one.annotator)):
        other = first.setdefault(one.session or one.name, one)
        both = _choices(one).items() & _choices(other).items() if other is not one else ()
        if both:
            notes.append(f"{other.annotator!r} and {one.annotator!r} saved {len(both)} same answers in one browser: "
                         "they count for both")  # fmt: skip
    return notes
