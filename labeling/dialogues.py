"""Prompts and answers of imported rows: texts stay texts and conversations stay conversations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

from labeling.annotations import Item
from labeling.tables import Row
from rlhf.foundation.cells import unix_lines
from rlhf.foundation.conversation import Text, as_completion, as_messages, as_prompt, prompt_from_text, prompt_to_text
from rlhf.foundation.data_sets import Placed, renamed
from rlhf.foundation.errors import InputError
from rlhf.foundation.layouts import HIDDEN, PROMPTS, read_preference_rows

LINE_ENDS = "texts with other line ends, now \\n"


def read_exchange(item: Item, prompt: str, answers: Sequence[str], counts: Counter[str]) -> tuple[str, list[str]]:
    """The prompt and the answers in these fields as records hold them; `prompt` "" when there is no such field.

    An answer may be a text, an assistant's turn, or a whole conversation: what comes before its last turn is then the
    prompt, and must be the given one if there is one, and that of the other answer. Raises InputError naming the place,
    also for what has no text (null).
    """
    given = _prompt(_unix(item, prompt, counts), f"{item.place}, {prompt}") if prompt else ""
    read = [_answer(given, _unix(item, name, counts), f"{item.place}, {name}") for name in answers]
    for name, (before, _) in zip(answers, read, strict=True):
        if before != read[0][0]:
            raise _another(f"{item.place}, {name}", f"the turns of {answers[0]}")
    return read[0][0], [answer for _, answer in read]


def read_pairs(rows: Sequence[Row], prompt: str, counts: Counter[str]) -> list[tuple[str, str, str]]:
    """Prompt, chosen and rejected of each row as records hold them, in any layout that `rlhf reward` reads too.

    `prompt` names the prompt's column. Raises InputError naming the row.
    """
    texts = (*HIDDEN, prompt, "chosen", "rejected")
    placed: list[Placed] = [
        (row.place, {name: _unix(Item(row.place, row.cells, []), name, counts) for name in row.cells if name in texts})
        for row in rows
    ]
    if prompt not in PROMPTS and any(prompt in row for _, row in placed):
        placed = renamed(placed, {"prompt": prompt}, HIDDEN)
    read = zip(placed, read_preference_rows(placed), strict=True)
    return [
        (prompt_to_text(r.prompt), as_completion(r.chosen, place), as_completion(r.rejected, place))
        for (place, _), r in read
    ]


def _unix(item: Item, name: str, counts: Counter[str]) -> object:
    value = item.data.get(name)
    unix = unix_lines(value)
    counts[LINE_ENDS] += unix != value
    return str(unix) if isinstance(unix, (int, float)) and not isinstance(unix, bool) else unix


def _prompt(value: object, place: str) -> str:
    read = prompt_from_text(as_prompt(value, place), place)
    return prompt_to_text(cast(Text, unix_lines(read)))  # a cell may hold a conversation as JSON


def _answer(prompt: str, value: Any, place: str) -> tuple[str, str]:
    if not isinstance(value, list) or not value:
        return prompt, as_completion(value, place)
    *before, last = as_messages(value, place)
    answer = as_completion([last], place)
    asked = (
        prompt_to_text([{"role": "user", "content": prompt}]) if isinstance(prompt_from_text(prompt), str) else prompt
    )
    if not before:
        return asked if prompt else "", answer
    told = prompt_to_text(before)
    if prompt and told != asked:
        raise _another(place, "the prompt")
    return told, answer


def _another(place: str, expected: str) -> InputError:
    return InputError(
        place,
        got="a conversation of another beginning",
        expected=f"{expected}, and then one assistant's turn",
        fix="mend that row, or name another column with --prompt",
    )
