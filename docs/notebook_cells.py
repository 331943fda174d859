"""The cells of a notebook that is written as a script, `# %%` before code and `# %% [markdown]` before text."""

from __future__ import annotations

import re
from collections.abc import Iterator

CELL = re.compile(r"^# %%(?P<kind> \[markdown\])?\n(?P<body>.*?)(?=^# %%|\Z)", re.DOTALL | re.MULTILINE)


def cells_of(source: str) -> Iterator[tuple[str, str]]:
    """Kind ("markdown" or "code") and text of each cell."""
    for found in CELL.finditer(source):
        body = found["body"].strip("\n")
        if found["kind"]:
            yield "markdown", "\n".join(line.removeprefix("#").removeprefix(" ") for line in body.splitlines())
        else:
            yield "code", body


def as_markdown(source: str) -> str:
    """The cells as one page, for readers without a browser."""
    parts = [text if kind == "markdown" else f"```python\n{text}\n```" for kind, text in cells_of(source)]
    return "\n\n".join(parts) + "\n"
