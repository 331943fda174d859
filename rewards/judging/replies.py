"""What a judge's reply says: read where it says it plainly, and never guessed.

Plain is an answer on its own (`7`, `7/10`), a last line that names it (`Score: 7`), or JSON (`{"score": 7}`), each also
in the bold type or fences of Markdown. A number somewhere in a sentence, a range, another scale, two answers that
differ: unreadable.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any, Literal

Verdict = Literal["A", "B", "tie"]

_NUMBER = re.compile(
    r"([-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(?:\s*(?:/|out of)\s*([0-9]+(?:\.[0-9]+)?))?", re.IGNORECASE
)
_FENCE = re.compile(r"```(?:json)?\s*\n(.*?)\n?\s*```", re.DOTALL | re.IGNORECASE)
_STATEMENT = r"[^\w{{]*_*(?:(?:my|the)\s+)?(?:final\s+|overall\s+)?(?:{names})(?:\s*\([^()]*\))?[\W_]*?[:=](.*)"
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
    """All that a reply says to be its answer: none, unless its end does; several where other lines do too."""
    lines = _FENCE.sub(r"\1", reply).strip().splitlines()
    for number, line in enumerate(lines):
        if line.startswith("{") and (found := _from_json("\n".join(lines[number:]), names)):
            return [*_stated(lines[:number], names), *found]
    told = [line for line in lines if line.strip(_AROUND)]
    if told and _stated(told[-1:], names):
        return _stated(told, names)
    return [_bare(told[0])] if len(told) == 1 else []


def _stated(lines: Sequence[str], names: tuple[str, ...]) -> list[str]:
    """What stands behind `Score:` on each line that has it."""
    pattern = _STATEMENT.format(names="|".join(names))
    matches = [re.fullmatch(pattern, line, re.IGNORECASE) for line in lines]
    return [_bare(match[1]) for match in matches if match]


def _bare(text: str) -> str:
    return text.strip(_AROUND).removesuffix(".").strip(_AROUND)


def _from_json(text: str, names: tuple[str, ...]) -> list[Any]:
    """The values of the names in a JSON object; none where the text is no such object."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return [value for name, value in found.items() if name.lower() in names] if isinstance(found, dict) else []


def _number(value: Any, high: float) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value) if math.isfinite(value) else None
    match = _NUMBER.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or (match[2] is not None and float(match[2]) != high):
        return None
    return float(match[1])
