"""Blind packets: people rate texts without knowing, or being able to find out, where each came from.

Every text gets a fresh random uid and a place by lot (Label Studio numbers tasks in order of import). The server and
the offline page see texts and uids; the key, uid to sample and source, stays in `key.jsonl` of the local folder, and
not even `tasks.jsonl` there names a source. The title and question are the caller's: they must not name one either.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labeling.campaign import plan_tasks
from labeling.chat import clean_prompt, prompt_form
from labeling.cleaning import MAX_CHARACTERS, clean_text
from labeling.folder import Folder, Plan, Task
from labeling.returned import Rating
from labeling.screens import RATING, Screen
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_jsonl, write_jsonl
from rlhf.foundation.records import Sample, new_uid

EMPTY = "(empty)"


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One line of the key: the opaque `uid` stands for `sample_uid` of `source`."""

    uid: str
    sample_uid: str
    source: str


@dataclass(frozen=True, slots=True)
class Unblinded:
    """One annotator's rating of one sample; `lead_time` in seconds."""

    sample_uid: str
    source: str
    rating: int
    annotator: str
    created_at: str
    lead_time: float | None


def blind(samples: Sequence[Sample], *, seed: int) -> tuple[list[Task], list[KeyRow]]:
    """Tasks in an order drawn from `seed`, under uids that are random and depend on nothing; and their key.

    An empty completion is shown as "(empty)": leaving it out would spare the model that wrote it.
    """
    order = list(samples)
    random.Random(f"blind {seed}").shuffle(order)
    tasks, key = [], []
    for sample in order:
        uid = new_uid()
        shown = clean_text(sample.completion, max_characters=MAX_CHARACTERS)
        prompt = clean_prompt(sample.prompt, max_characters=MAX_CHARACTERS).text
        tasks.append(Task(uid, prompt if prompt.strip() else "", EMPTY if shown.refused else shown.text))
        key.append(KeyRow(uid, sample.uid, sample.source))
    return tasks, key


def make_packet(
    folder: Folder, samples: Sequence[Sample], *, title: str, seed: int, screen: Screen = RATING
) -> tuple[Plan, list[Task]]:
    """The folder's packet, made on the first call and returned again later, so that a push can be repeated.

    Raises InputError when the folder holds a packet of other samples, or `title` or question names a source.
    """
    for source in {sample.source for sample in samples}:
        if source and source.lower() in f"{title} {screen.question}".lower():
            raise InputError(
                "--title", got=repr(title), expected="a title that does not name what is compared", fix="choose another"
            )
    path = folder.path / "key.jsonl"
    screen = dataclasses.replace(screen, prompt_format=prompt_form(sample.prompt for sample in samples))
    if path.exists():
        key = read_key(path)
        if {(row.sample_uid, row.source) for row in key} != {(sample.uid, sample.source) for sample in samples}:
            raise InputError(
                str(folder.path),
                got="a packet of other samples",
                expected="an empty folder, or the same samples",
                fix="choose another folder",
            )
        # The key is written before the tasks: a run that died between the two starts over with new uids.
        if {row.uid for row in key} == folder.read_tasks().keys():
            tasks = list(folder.read_tasks().values())  # or between tasks and plan: the plan is still to be written
            plan = folder.read_plan()
            return (plan, tasks) if plan is not None else plan_tasks(folder, screen, title, tasks)
    tasks, key = blind(samples, seed=seed)
    write_jsonl(path, (dataclasses.asdict(row) for row in key))
    return plan_tasks(folder, screen, title, tasks)


def read_key(path: Path) -> list[KeyRow]:
    """Read `key.jsonl`. Raises InputError when it is missing or a row is no key row."""
    rows = read_jsonl(path)
    fields = {field.name for field in dataclasses.fields(KeyRow)}
    for number, row in enumerate(rows, start=1):
        if row.keys() != fields:
            raise InputError(
                f"{path}, record {number}",
                got=f"fields {', '.join(row)}",
                expected=f"fields {', '.join(sorted(fields))}",
                fix="restore the file: without it nobody can say which text was whose",
            )
    return [KeyRow(**row) for row in rows]


def unblind(ratings: Sequence[Rating], key: Sequence[KeyRow]) -> list[Unblinded]:
    """Ratings with their samples, sorted by sample and annotator: the inverse of `blind`.

    Raises InputError for a uid that the key does not know, or one rated twice by one annotator.
    """
    by_uid = {row.uid: row for row in key}
    seen: set[tuple[str, str]] = set()
    found = []
    for rating in ratings:
        if rating.uid not in by_uid:
            raise InputError(
                "ratings", got=f"uid {rating.uid}", expected="a uid of this packet", fix="name the right folder"
            )
        if (rating.uid, rating.annotator) in seen:
            raise InputError(
                "ratings",
                got=f"uid {rating.uid} rated twice by {rating.annotator}",
                expected="one rating an annotator and text",
                fix="remove one",
            )
        seen.add((rating.uid, rating.annotator))
        row = by_uid[rating.uid]
        rest = (rating.rating, rating.annotator, rating.created_at, rating.lead_time)
        found.append(Unblinded(row.sample_uid, row.source, *rest))
    return sorted(found, key=lambda one: (one.source, one.sample_uid, one.annotator))


def unrated(ratings: Sequence[Rating], key: Sequence[KeyRow]) -> dict[str, int]:
    """How many texts of the packet each annotator has not rated yet; only those with some left."""
    left = {name: len(key) for name in {rating.annotator for rating in ratings}}
    for name, uid in {(rating.annotator, rating.uid) for rating in ratings}:
        left[name] -= any(row.uid == uid for row in key)
    return {name: count for name, count in sorted(left.items()) if count}
