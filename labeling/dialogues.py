"""Prompts and answers of imported rows: texts stay texts and conversations stay conversations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

from labeling.annotations import Item
from rlhf.foundation.cells import unix_lines
from rlhf.foundation.conversation import Text, as_completion, as_messages, as_prompt, prompt_from_text, prompt_to_text
from rlhf.foundation.errors import InputError

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
