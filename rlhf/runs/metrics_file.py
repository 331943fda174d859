"""metrics.jsonl read back, by one rule for resuming and inspecting.

Only the last line may be torn: its writer was killed, and the line is passed over with a word on stderr. Anything else
that is no whole line of its iteration is refused.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rlhf.foundation.errors import InputError
from rlhf.foundation.files import json_problem, read_text


def read_metrics_file(path: Path, *, tell: bool = True) -> list[dict[str, Any]]:
    """One row an iteration, from 0; [] when the file is missing. Raises InputError naming the line that is wrong."""
    if not path.exists():
        return []
    *lines, last = read_text(path).split("\n")  # not splitlines(): U+2028 inside a JSON string is no line end
    rows: list[dict[str, Any]] = []
    for number, line in enumerate([*lines, last], start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            if number > len(lines) and isinstance(error, json.JSONDecodeError):
                if tell:
                    print(f"rlhf: {path}: the torn last line is passed over (its writer was killed)", file=sys.stderr)
                break
            raise _bad_line(path, number, f"no valid JSON ({json_problem(error)})", len(rows)) from error
        if not isinstance(row, dict) or row.get("iteration") != len(rows):
            got = f"iteration {row.get('iteration')!r}" if isinstance(row, dict) else f"a JSON {type(row).__name__}"
            raise _bad_line(path, number, got, len(rows))
        rows.append(row)
    return rows


def _bad_line(path: Path, number: int, got: str, iteration: int) -> InputError:
    return InputError(
        f"{path}, line {number}",
        got=got,
        expected=f"the line of iteration {iteration}, one line an iteration in order",
        fix="restore the file from a copy; the checkpoints are model directories that load without it",
    )
