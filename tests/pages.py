"""The code blocks of README and docs: found by page and language, run in their order as a reader would."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from labeling.folder import Folder

ROOT = Path(__file__).parents[1]
RLHF = [sys.executable, "-m", "rlhf.cli"]
BLOCK = re.compile(
    r"(?:<!-- (?P<mark>[^>]*?) -->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Block:
    """One fenced block; `mark` is the comment above it, "" without one."""

    mark: str
    language: str
    code: str

    def commands(self) -> list[list[str]]:
        """The words of each command, continued lines joined, comments dropped."""
        lines = self.code.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def pages() -> list[str]:
    """README and every hand-written page, by their paths."""
    written = [p for p in (ROOT / "docs").rglob("*.md") if "_build" not in p.parts]
    return ["README.md", *sorted(str(p.relative_to(ROOT)) for p in written)]


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [Block(m["mark"] or "", m["language"], m["code"]) for m in BLOCK.finditer(text)]


def block(page: str, mark: str) -> Block:
    """The block below `<!-- mark -->`."""
    found = [one for one in blocks(page) if one.mark == mark]
    assert found, f"{page} has no block {mark}"
    return found[0]


def commands(page: str) -> list[list[str]]:
    """Every command of a page's bash blocks."""
    return [words for one in blocks(page) if one.language == "bash" for words in one.commands()]


def run(words: list[str], folder: Path) -> str:
    """What one command of the toolkit prints; it must end well."""
    assert words[0] == "rlhf", words
    done = subprocess.run([*RLHF, *words[1:]], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def answer(place: Path, file: Path) -> None:
    """What the page in the folder `place` saves when one person, ana, has answered everything."""
    plan = Folder(place).need_plan()
    choices = plan.screen.choices
    said = [
        {"uid": uid, "choice": choices[i % len(choices)], "lead_time": 1.0, "at": "2026-01-01T00:00:00Z"}
        for i, uid in enumerate(Folder(place).read_tasks())
    ]
    file.write_text(json.dumps({"packet": plan.packet, "annotator": "ana", "answers": said}), encoding="utf-8")
