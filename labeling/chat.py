"""Chat turns out of a prompt, for a screen that shows who said what."""

from __future__ import annotations

import re
from collections.abc import Iterable

from labeling.cleaning import Cleaned, clean_text
from labeling.screens import PromptFormat
from rlhf.foundation.conversation import Messages, in_turns, prompt_from_text, prompt_to_text
from rlhf.foundation.errors import InputError

# Anthropic's hh-rlhf: https://huggingface.co/datasets/Anthropic/hh-rlhf
HH_TURN = re.compile(r"\n\n(Human|Assistant):[ ]?")


def chat_turns(prompt: str, form: PromptFormat) -> Messages:
    """The turns of a prompt as `{"role", "content"}`; an empty last turn, where the completion begins, is left out.

    `hh` reads "\\n\\nHuman: ...\\n\\nAssistant: ..."; `messages` the messages of a conversation; `text` makes one turn
    of it all, of a conversation with who said what. Raises InputError when the prompt is not of that form.
    """
    if form == "text":
        return [{"role": "prompt", "content": in_turns(prompt)}]
    turns = _hh(prompt) if form == "hh" else _messages(prompt)
    shown = [{"role": turn["role"], "content": turn["content"]} for turn in turns]
    return [turn for turn in shown if turn["content"].strip()]


def prompt_form(prompts: Iterable[str]) -> PromptFormat:
    """How prompts are shown unless someone says otherwise: in turns, if one of them is a conversation."""
    return "messages" if any(not isinstance(prompt_from_text(prompt), str) for prompt in prompts) else "text"


def clean_prompt(prompt: str, *, max_characters: int) -> Cleaned:
    """A prompt made fit to be shown; an empty one passes.

    Of a conversation each turn is cleaned and cut by itself, however it is shown: JSON may write a lone surrogate as
    an escape, which would come to life on the server, and JSON that was cut is none.
    """
    if not prompt.strip():
        return Cleaned(prompt)
    messages = prompt_from_text(prompt)
    if isinstance(messages, str):
        return clean_text(prompt, max_characters=max_characters)
    turns: Messages = []
    changes: dict[str, None] = {}  # in order, each once
    for turn in messages:
        cleaned = {name: clean_text(turn[name], max_characters=max_characters) for name in ("role", "content")}
        turns.append({**turn, **{name: one.text for name, one in cleaned.items()}})
        changes |= dict.fromkeys(change for one in cleaned.values() for change in one.changes)
    return Cleaned(prompt_to_text(turns) if changes else prompt, tuple(changes))


def _hh(prompt: str) -> Messages:
    before, *rest = HH_TURN.split(prompt)
    if before.strip() or not rest:
        raise _not(prompt, "turns that begin with a blank line and 'Human:' or 'Assistant:'")
    return [{"role": role, "content": text} for role, text in zip(rest[::2], rest[1::2], strict=True)]


def _messages(prompt: str) -> Messages:
    """The turns of a conversation; a plain prompt, which may stand among conversations, is one turn of its own."""
    messages = prompt_from_text(prompt)
    return messages if not isinstance(messages, str) else [{"role": "prompt", "content": prompt}]


def _not(prompt: str, expected: str) -> InputError:
    shown = prompt if len(prompt) <= 60 else prompt[:57] + "..."
    return InputError("prompt", got=repr(shown), expected=expected, fix="choose another --prompt_format")
