"""Fills the README's generated parts, the tree of files and the table of metrics: python docs/fill_readme.py."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

from rlhf.runs.metrics import markdown_table

ROOT = Path(__file__).parents[1]
PACKAGES = ("labeling", "rewards", "rlhf")
WIDTH = 96


def purpose(path: str) -> str:
    """The first sentence of a module's docstring, at most WIDTH characters."""
    docstring = ast.get_docstring(ast.parse((ROOT / path).read_text(encoding="utf-8"))) or ""
    sentence = docstring.split("\n\n")[0].replace("\n", " ").split(". ")[0].rstrip(".").replace("`", "")
    return sentence if len(sentence) <= WIDTH else sentence[: WIDTH - 3].rsplit(" ", 1)[0] + " ..."


def tree() -> str:
    """One line a file, in the direction the data flows."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    paths = [p for p in tracked if p.startswith(tuple(f"{name}/" for name in PACKAGES)) and p.endswith(".py")]
    paths = [p for p in paths if not p.endswith("__init__.py")]
    paths.sort(key=lambda p: (PACKAGES.index(p.split("/")[0]), p.count("/"), p))
    width = max(map(len, paths)) + 2
    return "\n".join(f"{path:<{width}}{purpose(path)}" for path in paths)


def main() -> None:
    """Rewrite README.md in place."""
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    for start, content, end in (
        ("<!-- tree -->\n```text\n", tree(), "```"),
        ("<!-- metrics -->\n", markdown_table(), "<!-- /metrics -->"),
    ):
        pattern = re.escape(start) + ".*?" + re.escape(end)
        text = re.sub(pattern, lambda _, s=start, c=content, e=end: f"{s}{c}\n{e}", text, count=1, flags=re.DOTALL)
    readme.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
