"""What a judge's reply says: read where it says it plainly, and never guessed.

Plain is an answer on its own (`7`, `7/10`), a last line that names it (`Score: 7`), or JSON (`{"score": 7}`), each also
in the bold type or fences of Markdown. A number somewhere in a sentence, a range, another scale, two answers that
differ: unreadable.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Literal

Verdict = Literal["A", "B", "tie"]

_NUMBER = re.compile(
    r"([-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(?:\s*(?:/|out of)\s*([0-9]+(?:\.[0-9]+)?))?", re.IGNORECASE
)
_FENCE = re.compile(r"```(?:json)?\s*\n(.*?)\n?\s*```", re.DOTALL | re.IGNORECASE)
_STATEMENT = r"[\W_]*(?:(?:my|the)\s+)?(?:final\s+|overall\s+)?(?:{names})(?:\s*\([^()]*\))?[\W_]*?[:=](.*)"
_AROUND = "*_`\"'[]() \t"
_SCORE = ("score", "rating")
_WINNER = ("winner", "verdict")


def read_score(reply: str, low: float, high: float) -> float | None:
    """The number that a reply gives on the scale from `low` to `high`; None where it gives none plainly.

    `7/10` counts where `high` is 10.
    """
    said = _answers(reply, _SCORE)
    numbers = {_number(value, high) for value in said}
    if len(numbers) != 1:
        return None
    number = numbers.pop()
    return number if number is not None and low <= number <= high else None


def read_verdict(reply: str) -> Verdict | None:
    """Which of two texts, A or B, a reply calls the better one, or "tie"; None where it does not say so plainly."""
    known: dict[str, Verdict] = {"a": "A", "b": "B", "tie": "tie"}
    verdicts = {known.get(str(value).lower()) for value in _answers(reply, _WINNER)}
    return verdicts.pop() if len(verdicts) == 1 else None


def _answers(reply: str, names: tuple[str, ...]) -> list[Any]:
    """All that a reply says to be its answer: none, unless its last line does; several where other lines do too."""
    text = _FENCE.sub(r"\1", reply).strip()
    whole = _from_json(text, names)
    if whole is not None:
        return whole
    lines = [line for line in text.splitlines() if line.strip(_AROUND)]
    if not lines:
        return []
    said = [_said(line, names) for line in lines]
    if said[-1] is not None:
        return [value for value in said if value is not None]
    return [_bare(lines[0])] if len(lines) == 1 else []


def _said(line: str, names: tuple[str, ...]) -> Any:
    """What stands behind `Score:` on a line, or in its JSON; None where there is neither."""
    found = _from_json(line.strip(), names)
    if found:
        return found[0]
    match = re.fullmatch(_STATEMENT.format(names="|".join(names)), line, re.IGNORECASE)
    return None if match is None else _bare(match[1])


def _bare(text: str) -> str:
    return text.strip(_AROUND).removesuffix(".").strip(_AROUND)


def _from_json(text: str, names: tuple[str, ...]) -> list[Any] | None:
    """The values of the names in a JSON object; None where the text is no such object."""
    if not text.startswith("{"):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    return [value for name, value in found.items() if name.lower() in names]


def _number(value: Any, high: float) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value) if math.isfinite(value) else None
    match = _NUMBER.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or (match[2] is not None and float(match[2]) != high):
        return None
    return float(match[1])
