"""Pushing to and pulling from a real Label Studio, killed at random moments: every task once, every label kept."""

from __future__ import annotations

import random
import shutil
import time
import uuid
from collections import Counter
from pathlib import Path

import pytest

from labeling.folder import Folder
from labeling.screens import SENTIMENT
from labeling.server_raters import result_of
from rlhf.foundation.records import Sample, write_records
from tests.labeling.conftest import Live, label_studio  # noqa: F401  (a fixture)

from .faults import Commands, contents, differences
from .tally import Tally

pytestmark = [pytest.mark.campaign, pytest.mark.real]

TASKS, KILLS = 40, 10


def words(live: Live, title: str) -> list[str]:
    """The command that pushes the folder's samples."""
    push = "label push --samples samples.jsonl --output_dir folder --num_tasks 0 --chunk 5 --settle_seconds 2 --quiet"
    return [*push.split(), "--title", title, "--server_dir", str(live.directory)]


def prepared(folder: Path) -> Path:
    """A folder with samples to push."""
    folder.mkdir()
    write_records(folder / "samples.jsonl", [Sample(f"uid-{i}", "", f"text {i}", "m") for i in range(TASKS)])
    return folder


def pushed(live: Live, folder: Path) -> Counter[str | None]:
    """How often each uid stands in the project."""
    plan = Folder(folder / "folder").need_plan()
    return Counter(task.uid for task in live.connect().list_tasks(plan.projects[0].id))


def test_a_killed_push_given_again_leaves_every_task_once(
    commands: Commands,
    label_studio: Live,  # noqa: F811
    tmp_path: Path,
    tally: Tally,
) -> None:
    began, whole = time.monotonic(), prepared(tmp_path / "whole")
    outcome = commands.run(whole, *words(label_studio, f"Whole {uuid.uuid4().hex[:12]}"))
    assert outcome.status == 0, outcome.errors
    seconds, expected = time.monotonic() - began, pushed(label_studio, whole)
    assert len(expected) == TASKS
    wrong, kills = {}, 0
    while kills < KILLS:
        folder = prepared(tmp_path / f"cut-{uuid.uuid4().hex}")
        push, moment = words(label_studio, f"Killed {uuid.uuid4().hex[:12]}"), random.uniform(0, seconds)
        kills += commands.run(folder, *push, kill_after=moment).status == -9
        again = commands.run(folder, *push)
        if again.status or pushed(label_studio, folder) != expected:
            wrong[moment] = again.errors
    tally.add("push to Label Studio killed at a random moment", kills, wrong)
    assert not wrong


def test_a_killed_pull_given_again_brings_every_label(
    commands: Commands,
    label_studio: Live,  # noqa: F811
    tmp_path: Path,
    tally: Tally,
) -> None:
    folder = prepared(tmp_path / "pushed")
    assert commands.run(folder, *words(label_studio, f"Pulled {uuid.uuid4().hex[:12]}")).status == 0
    studio, project = label_studio.connect("ana"), Folder(folder / "folder").need_plan().projects[0].id
    for number, task in enumerate(label_studio.connect().list_tasks(project)):
        studio.annotate(task.id, result_of(SENTIMENT, SENTIMENT.choices[number % 3]), lead_time=1.0)
    pull = ["label", "pull", "--output_dir", "folder", "--server_dir", str(label_studio.directory), "--quiet"]
    shutil.copytree(folder, tmp_path / "whole")
    began = time.monotonic()
    assert commands.run(tmp_path / "whole", *pull).status == 0
    seconds, whole = time.monotonic() - began, contents(tmp_path / "whole")
    assert len(whole["folder/labels.jsonl"]) == TASKS
    wrong, kills = {}, 0
    while kills < KILLS:
        cut = tmp_path / f"cut-{uuid.uuid4().hex}"
        shutil.copytree(folder, cut)
        moment = random.uniform(0, seconds)
        kills += commands.run(cut, *pull, kill_after=moment).status == -9
        again = commands.run(cut, *pull)
        if again.status or differences(whole, contents(cut)):
            wrong[moment] = [again.errors, *differences(whole, contents(cut))]
    tally.add("pull from Label Studio killed at a random moment", kills, wrong)
    assert not wrong
