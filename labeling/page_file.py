"""One offline HTML file to label in, for people who want no server; answers.py reads what they send back.

The page holds texts and opaque uids, nothing else: no source, no reason, no swap. It loads nothing from anywhere
(its own Content-Security-Policy forbids it), shows texts as text, and keeps its answers in the browser.
"""

from __future__ import annotations

import dataclasses
import html
import json
from collections.abc import Sequence
from pathlib import Path

from labeling.chat import chat_turns
from labeling.critiques import Reasons
from labeling.folder import Plan, Task
from labeling.screens import Screen
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import write_text
from rlhf.foundation.records import new_uid

TEMPLATE = Path(__file__).with_name("page.html")
SLOT = "{{ data }}"


def write_page(
    path: Path, *, title: str, screen: Screen, tasks: Sequence[Task], packet: str, reasons: Sequence[Reasons] = ()
) -> None:
    """Write the page. `packet` is an opaque id that comes back with the answers.

    `reasons` of a task stay hidden until its first answer, which is kept beside the one that follows.
    """
    by_uid = {one.uid: one for one in reasons}
    chat = screen.prompt_format != "text"
    rows = []
    for task in tasks:
        data = task.data(screen, shows_prompt=False)
        texts = [data["answer1"], data["answer2"]] if screen.kind == "comparison" else [data["text"]]
        turns = chat_turns(task.prompt, screen.prompt_format) if task.prompt.strip() else []
        row = {"uid": task.uid, "texts": texts, "turns": turns}
        if task.uid in by_uid:
            shown = by_uid[task.uid].shown(swapped=task.swapped)
            row |= {"pieces": shown.pieces, "scores": shown.scores}
        rows.append(row)
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
