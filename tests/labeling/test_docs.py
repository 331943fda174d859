"""Every command of docs/labeling.md and of the README's labelling section runs, in its order, on a real server."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from labeling import server
from labeling.folder import Folder
from rlhf.foundation.records import Sample, read_labels, write_records
from rlhf.language_model.grammar import generate_corpus
from tests.labeling.conftest import Live

ROOT = Path(__file__).parents[2]
TEXTS = ("I love this happy day", "I hate this horrible day", "It is a day", "What a lovely friend")


def commands(path: str, pattern: str) -> list[list[str]]:
    """The words of each command in the blocks that match, continued lines joined, comments dropped."""
    blocks = re.findall(pattern, (ROOT / path).read_text(encoding="utf-8"), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


PAGE = commands("docs/labeling.md", r"```bash\n(.*?)```")
README = commands("README.md", r"<!-- labelling -->\n```bash\n(.*?)```")


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
    (tmp_path / "moods.csv").write_text("passage,mood\nO joy,happy\nAlas,sad\n", encoding="utf-8")
    assert len(PAGE) >= 10
    for words in PAGE:
        run(words, tmp_path, home)
    assert len(read_labels(tmp_path / "labels" / "labels.jsonl")) == 72
    assert len(read_labels(tmp_path / "imported.jsonl")) == 2
    assert (tmp_path / "page" / "label.html").exists()


@pytest.mark.real
@pytest.mark.slow
def test_every_labelling_command_of_the_readme_runs(home: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    speeches = generate_corpus(1, 24)  # the rule that answers here knows the embedded corpus alone
    write_records(
        tmp_path / "runs" / "samples.jsonl", [Sample(f"s{i}", "", text, "m") for i, text in enumerate(speeches)]
    )
    assert [words[2] for words in README] == ["serve", "push", "annotate", "pull", "status", "serve", "page", "page"]
    for words in README:
        if "--answers" in words:  # what the page's own button saves is tested in test_page.py
            packet = Folder(tmp_path / "runs" / "page").need_plan().packet
            answers = [{"uid": "s0", "choice": "Positive", "lead_time": 1.0, "at": "2026-01-01T00:00:00Z"}]
            row = {"packet": packet, "annotator": "ana", "answers": answers}
            (tmp_path / words[-1]).write_text(json.dumps(row), encoding="utf-8")
        printed = run(words, tmp_path, home)
        if words[2] == "serve" and "--stop" not in words:
            assert all(f"{name}@rater.example" in printed for name in ("ana", "ben", "eva"))
    assert len(read_labels(tmp_path / "runs" / "labelling" / "labels.jsonl")) == 60
    assert len(read_labels(tmp_path / "runs" / "page" / "labels.jsonl")) == 1


def test_every_subcommand_has_its_place_in_the_page() -> None:
    from rlhf.commands.label import SUBCOMMANDS

    assert {words[2] for words in PAGE} == set(SUBCOMMANDS)
