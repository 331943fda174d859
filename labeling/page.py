"""One offline HTML file to label in, for people who want no server, and the way back from the file they send.

The page holds texts and opaque uids, nothing else: no source, no reason, no swap. It loads nothing from anywhere
(its own Content-Security-Policy forbids it), shows texts as text, and keeps its answers in the browser.
"""

from __future__ import annotations

import dataclasses
import html
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from labeling.annotations import Annotation
from labeling.chat import chat_turns
from labeling.folder import Folder, Plan, Task
from labeling.pairs import content_uid
from labeling.returned import Returned, add_up, write_returned
from labeling.screens import Screen
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_json, write_json, write_text
from rlhf.foundation.records import is_name, new_uid
from rlhf.foundation.terminal import shown

TEMPLATE = Path(__file__).with_name("page.html")
SLOT = "{{ data }}"


def write_page(path: Path, *, title: str, screen: Screen, tasks: Sequence[Task], packet: str) -> None:
    """Write the page. `packet` is an opaque id that comes back with the answers."""
    chat = screen.prompt_format != "text"
    rows = []
    for task in tasks:
        data = task.data(screen, shows_prompt=False)
        texts = [data["answer1"], data["answer2"]] if screen.kind == "comparison" else [data["text"]]
        turns = chat_turns(task.prompt, screen.prompt_format) if task.prompt.strip() else []
        rows.append({"uid": task.uid, "texts": texts, "turns": turns})
    data = {
        "packet": packet,
        "question": screen.question,
        "choices": list(screen.choices),
        "chat": chat,
        "tasks": rows,
    }
    # Inside a script element only "<" can end or reopen anything; \u003c is the same to JSON.
    embedded = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    before, _, after = TEMPLATE.read_text(encoding="utf-8").replace("{{ title }}", html.escape(title)).partition(SLOT)
    write_text(path, before + embedded + after)


def read_answers(
    path: Path, *, packet: str, screen: Screen, tasks: Mapping[str, Task]
) -> tuple[list[Annotation], Counter[str]]:
    """Annotations of a file that a page saved, and a count of answers about tasks that are not ours.

    Raises InputError for a file of another packet or shape.
    """
    row = read_json(path)
    if not isinstance(row, dict) or not isinstance(row.get("answers"), list) or not row.get("annotator"):
        raise InputError(
            str(path), got="JSON of another shape", expected="a file that the page saved", fix="save it again"
        )
    if not is_name(row["annotator"]):
        raise InputError(
            f"{path}, annotator",
            got=shown(repr(row["annotator"]), 80),
            expected="a name of 1 to 200 characters on one line",
            fix="mend the name in the file",
        )
    if row.get("packet") != packet:
        raise InputError(
            str(path),
            got=f"answers to packet {str(row.get('packet'))[:40]}",
            expected=f"answers to packet {packet}",
            fix="name the --output_dir that this page came from",
        )
    found, counts = [], Counter[str]()
    for number, answer in enumerate(row["answers"], start=1):
        if not isinstance(answer, dict) or answer.get("uid") not in tasks:
            counts["unknown task"] += 1
            continue
        found.append(_annotation(answer, number, str(row["annotator"]), screen))
    return found, counts


def _annotation(answer: Mapping[str, Any], number: int, annotator: str, screen: Screen) -> Annotation:
    choice, seconds = answer.get("choice"), answer.get("lead_time")
    timed = isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and 0 <= seconds < math.inf
    known = choice in screen.choices
    return Annotation(
        task=number,
        uid=str(answer["uid"]),
        annotator=annotator,
        outcome="labelled" if known else "skipped" if choice is None else "unknown choice",
        choice=str(choice) if known else None,
        updated_at=str(answer.get("at") or ""),
        number=number,
        lead_time=float(seconds) if timed and seconds is not None else None,
        origin="manual",
    )


def collect(folder: Folder, files: Sequence[Path]) -> Returned:
    """Take in files that the page saved, keep a copy of each, and write the labels of all raters so far.

    A rater's later file replaces the earlier one (it holds those answers too). Every file is read before anything is
    written. Raises InputError.
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
    new = {}
    for file in files:
        read_answers(file, packet=plan.packet, screen=plan.screen, tasks=tasks)
        row = read_json(file)
        new[content_uid(row["annotator"])] = row
    for name, row in new.items():
        write_json(kept / f"{name}.json", row)
    returned = Returned()
    found: list[Annotation] = []
    for path in sorted(kept.glob("*.json")):
        annotations, counts = read_answers(path, packet=plan.packet, screen=plan.screen, tasks=tasks)
        found += annotations
        returned.counts.update(counts)
    add_up(returned, found, plan, tasks)
    write_returned(folder, plan, returned)
    return returned


def page_plan(plan: Plan) -> Plan:
    """The plan with a packet id. Raises InputError when the folder has projects in Label Studio."""
    if plan.projects:
        raise InputError(
            "--output_dir",
            got=f"a folder with tasks in Label Studio ({plan.projects[0].url})",
            expected="a folder of its own for the page",
            fix="choose another --output_dir",
        )
    return plan if plan.packet else dataclasses.replace(plan, packet=new_uid())
