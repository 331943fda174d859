"""Chat turns out of a prompt, for a screen that shows who said what."""

from __future__ import annotations

import json
import re

from labeling.errors import InputError
from labeling.screens import PromptFormat

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


def _hh(prompt: str) -> list[Turn]:
    before, *rest = HH_TURN.split(prompt)
    if before.strip() or not rest:
        raise _not(prompt, "turns that begin with a blank line and 'Human:' or 'Assistant:'")
    return [{"role": role, "content": text} for role, text in zip(rest[::2], rest[1::2], strict=True)]


def _messages(prompt: str) -> list[Turn]:
    try:
        messages = json.loads(prompt)
    except json.JSONDecodeError:
        messages = None
    if not isinstance(messages, list) or not all(
        isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str) for m in messages
    ):
        raise _not(prompt, 'a JSON list of {"role", "content"}')
    return [{"role": m["role"], "content": m["content"]} for m in messages]


def _not(prompt: str, expected: str) -> InputError:
    shown = prompt if len(prompt) <= 60 else prompt[:57] + "..."
    return InputError("prompt", got=repr(shown), expected=expected, fix="choose another --prompt_format")
