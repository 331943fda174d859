"""Every command of docs/labeling.md runs, in its order, against a real server."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from labeling import server
from labeling.records import Sample, read_labels, write_records
from tests.labeling.conftest import Live

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "labeling.md").read_text(encoding="utf-8")
COMMANDS = [
    line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines() if line.strip()
]


@pytest.mark.real
@pytest.mark.slow
def test_every_command_runs(label_studio: Live, tmp_path: Path) -> None:
    texts = ("I love this happy day", "I hate this horrible day", "It is a day", "What a lovely friend")
    samples = [Sample(f"s{i}", "", f"{texts[i % 4]} {i}", "m") for i in range(24)]
    write_records(tmp_path / "samples.jsonl", samples)
    chat = json.dumps([{"role": "user", "content": "Hello?"}])
    write_records(tmp_path / "chat.jsonl", [Sample("c0", chat, "Hello!", "m")])
    rows = [json.dumps({"uid": s.uid, "p_positive": i / 24}) for i, s in enumerate(samples)]
    (tmp_path / "scores.jsonl").write_text("\n".join(rows), encoding="utf-8")
    (tmp_path / "moods.csv").write_text("passage,mood\nO joy,happy\nAlas,sad\n", encoding="utf-8")
    data = tmp_path / "data"
    shutil.copytree(server.cache_directory() / "migrated", data / "rlhf" / "label-studio")
    env = {k: v for k, v in os.environ.items() if not k.startswith("LABEL_STUDIO_")}
    env |= {"XDG_DATA_HOME": str(data), "RLHF_LABEL_STUDIO_VENV": str(server.cache_directory())}
    assert len(COMMANDS) >= 10
    try:
        for line in COMMANDS:
            program, *words = shlex.split(line)
            assert program == "rlhf"
            done = subprocess.run(
                [sys.executable, "-m", "rlhf.cli", *words],
                cwd=tmp_path,
                env={**env, "PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    finally:
        server.stop(data / "rlhf" / "label-studio")
    assert len(read_labels(tmp_path / "labels" / "labels.jsonl")) == 72
    assert len(read_labels(tmp_path / "imported.jsonl")) == 2
    assert (tmp_path / "page" / "label.html").exists()


def test_every_subcommand_has_its_place_in_the_page() -> None:
    from rlhf.commands.label import SUBCOMMANDS

    used = {shlex.split(line)[2] for line in COMMANDS}
    assert used == set(SUBCOMMANDS)
