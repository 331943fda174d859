"""Every command of docs/labeling.md runs, in its order, on a real server."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from labeling import server
from labeling.folder import Folder
from rlhf.foundation.records import Sample, read_comparisons, read_labels, write_records
from tests.labeling.conftest import Live
from tests.pages import commands

ROOT = Path(__file__).parents[2]
TEXTS = ("I love this happy day", "I hate this horrible day", "It is a day", "What a lovely friend")


PAGE = commands("docs/labeling.md")


@pytest.fixture
def home(label_studio: Live, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a user who has Label Studio installed and prepared, but not running."""
    data = tmp_path / "data"
    shutil.copytree(server.cache_directory() / "migrated", data / "rlhf" / "label-studio")
    env = {k: v for k, v in os.environ.items() if not k.startswith("LABEL_STUDIO_")}
    env |= {"XDG_DATA_HOME": str(data), "RLHF_LABEL_STUDIO_VENV": str(server.cache_directory())}
    yield {**env, "PYTHONPATH": str(ROOT)}
    server.stop(data / "rlhf" / "label-studio")


def run(words: list[str], cwd: Path, env: dict[str, str]) -> str:
    """What one command prints; it must end well."""
    assert words[0] == "rlhf"
    done = subprocess.run(
        [sys.executable, "-m", "rlhf.cli", *words[1:]], cwd=cwd, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.real
@pytest.mark.slow
def test_every_command_of_the_page_runs(home: dict[str, str], tmp_path: Path) -> None:
    samples = [Sample(f"s{i}", "", f"{TEXTS[i % 4]} {i}", "m") for i in range(24)]
    write_records(tmp_path / "samples.jsonl", samples)
    chat = json.dumps([{"role": "user", "content": "Hello?"}])
    write_records(tmp_path / "chat.jsonl", [Sample("c0", chat, "Hello!", "m")])
    rows = [json.dumps({"uid": s.uid, "p_positive": i / 24}) for i, s in enumerate(samples)]
    (tmp_path / "scores.jsonl").write_text("\n".join(rows), encoding="utf-8")
    write_records(tmp_path / "other.jsonl", [Sample(f"o{i}", "", f"{TEXTS[i % 4]}, {i}", "n") for i in range(5)])
    (tmp_path / "moods.csv").write_text("passage,mood\nO joy,happy\nAlas,sad\n", encoding="utf-8")
    assert len(PAGE) >= 10
    for words in PAGE:
        if "--answers" in words:  # what the page's own button saves is tested in test_page.py
            write_answers(tmp_path, tmp_path / words[words.index("--output_dir") + 1], words)
        printed = run(words, tmp_path, home)
        if "--show_passwords" in words:
            assert all(f"{name}@rater.example" in printed for name in ("ana", "ben", "eva"))
    assert len(read_labels(tmp_path / "labels" / "labels.jsonl")) == 60
    assert {label.annotator for label in read_labels(tmp_path / "page" / "labels.jsonl")} == {"ana", "ben"}
    assert len(read_labels(tmp_path / "imported.jsonl")) == 2
    assert (tmp_path / "page" / "label.html").exists()
    assert len(Folder(tmp_path / "again").need_plan().projects) == 3
    pairs = tmp_path / "pairs"
    assert {row.annotator for row in read_comparisons(pairs / "comparisons.jsonl")} == {"ana"}
    assert {row.annotator for row in read_comparisons(pairs / "comparisons.reference.jsonl")} == {"rita"}
    assert len(Folder(pairs).read_tasks()) == 16


def write_answers(place: Path, folder: Path, words: list[str]) -> None:
    """A file for each name in the command, as people would save them who choose the first answer of everything."""
    plan, tasks = Folder(folder).need_plan(), Folder(folder).read_tasks()
    for name in (word for word in words if word.startswith("answers-")):
        answers = [
            {"uid": uid, "choice": plan.screen.choices[0], "lead_time": 1.0, "at": "2026-01-01T00:00:00Z"}
            for uid in tasks
        ]
        rater = name.removeprefix("answers-").removesuffix(".json")
        row = {"packet": plan.packet, "annotator": rater, "answers": answers}
        (place / name).write_text(json.dumps(row), "utf-8")


def test_every_subcommand_has_its_place_in_the_page() -> None:
    from rlhf.commands.label import SUBCOMMANDS

    assert {words[2] for words in PAGE} == set(SUBCOMMANDS)
