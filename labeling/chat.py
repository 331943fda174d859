"""Chat turns out of a prompt, for a screen that shows who said what."""

from __future__ import annotations

import json
import re

from labeling.cleaning import Cleaned, clean_text
from labeling.screens import PromptFormat
from rlhf.foundation.errors import InputError

Turn = dict[str, str]
# Anthropic's hh-rlhf: https://huggingface.co/datasets/Anthropic/hh-rlhf
HH_TURN = re.compile(r"\n\n(Human|Assistant):[ ]?")


def chat_turns(prompt: str, form: PromptFormat) -> list[Turn]:
    """The turns of a prompt as `{"role", "content"}`; an empty last turn, where the completion begins, is left out.

    `hh` reads "\\n\\nHuman: ...\\n\\nAssistant: ..."; `messages` reads a JSON list of {"role", "content"}; `text`
    makes one turn of it all. Raises InputError when the prompt is not of that form.
    """
    if form == "text":
        return [{"role": "prompt", "content": prompt}]
    turns = _hh(prompt) if form == "hh" else _messages(prompt)
    return [turn for turn in turns if turn["content"].strip()]


def clean_prompt(prompt: str, form: PromptFormat, *, max_characters: int) -> Cleaned:
    """A prompt made fit to be shown; an empty one passes.

    Of `messages` each turn is cleaned and cut by itself: JSON may write a lone surrogate as an escape, which would
    come to life on the server, and JSON that was cut is none. Raises InputError when it is not of that form.
    """
    if not prompt.strip():
        return Cleaned(prompt)
    if form != "messages":
        return clean_text(prompt, max_characters=max_characters)
    turns: list[Turn] = []
    changes: dict[str, None] = {}  # in order, each once
    for turn in _messages(prompt):
        cleaned = {name: clean_text(text, max_characters=max_characters) for name, text in turn.items()}
        turns.append({name: one.text for name, one in cleaned.items()})
        changes |= dict.fromkeys(change for one in cleaned.values() for change in one.changes)
    return Cleaned(json.dumps(turns, ensure_ascii=False) if changes else prompt, tuple(changes))


def _hh(prompt: str) -> list[Turn]:
    before, *rest = HH_TURN.split(prompt)
    if before.strip() or not rest:
        raise _not(prompt, "turns that begin with a blank line and 'Human:' or 'Assistant:'")
    return [{"role": role, "content": text} for role, text in zip(rest[::2], rest[1::2], strict=True)]


def _messages(prompt: str) -> list[Turn]:
    try:
        messages = json.loads(prompt)
    except (json.JSONDecodeError, RecursionError):
        messages = None
    if not isinstance(messages, list) or not all(
        isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str) for m in messages
    ):
        raise _not(prompt, 'a JSON list of {"role", "content"}')
    return [{"role": m["role"], "content": m["content"]} for m in messages]


def _not(prompt: str, expected: str) -> InputError:
    shown = prompt if len(prompt) <= 60 else prompt[:57] + "..."
    return InputError("prompt", got=repr(shown), expected=expected, fix="choose another --prompt_format")
