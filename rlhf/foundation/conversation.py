"""Conversations: lists of {"role", "content"}, as in TRL's conversational data sets, and their one form in records.

A record holds a prompt as one string: plain text as it is, a conversation as JSON in a canonical spelling, so that
equal conversations are equal strings. In files both are what they are, a text or a list of messages. Content that
comes in parts ([{"type": "text", "text": ...}]) is joined, ShareGPT's {"from", "value"} becomes {"role", "content"};
what has no text (null, images) is refused, never spelled out as Python.
"""

from __future__ import annotations

import json
from typing import Any

from rlhf.foundation.errors import InputError

Message = dict[str, Any]
Messages = list[Message]
Text = str | Messages
"""A prompt, or a completion: plain text, or messages."""

SHAREGPT_ROLES = {"human": "user", "gpt": "assistant"}
_SHAREGPT = {"from", "value"}


def is_messages(value: object) -> bool:
    """Whether `value` is a list of at least one {"role", "content"} of text."""
    return isinstance(value, list) and bool(value) and all(_is_message(message) for message in value)


def _is_message(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("role"), str) and isinstance(value.get("content"), str)


def as_messages(value: object, place: str) -> Messages:
    """A list of messages with text as content. Raises InputError naming `place` where it cannot be one."""
    if not isinstance(value, list) or not value:
        raise _refuse(place, "nothing" if value is None else f"{value!r}"[:60], 'a list of {"role", "content"}')
    return [_as_message(message, f"{place}, message {i}") for i, message in enumerate(value, start=1)]


def _as_message(value: object, place: str) -> Message:
    if isinstance(value, dict) and {"from", "value"} <= value.keys() and "role" not in value:
        role = SHAREGPT_ROLES.get(str(value["from"]), value["from"])
        value = {"role": role, "content": value["value"], **{k: v for k, v in value.items() if k not in _SHAREGPT}}
    if not isinstance(value, dict) or not isinstance(value.get("role"), str):
        raise _refuse(place, f"{value!r}"[:60], '{"role", "content"}')
    content = value.get("content")
    if isinstance(content, list):
        content = "".join(_text_of_part(part, place) for part in content)
    if not isinstance(content, str):
        got = "no content" if content is None else f"a {type(content).__name__} as content"
        raise _refuse(place, got, "text as content")
    return {"role": value["role"], "content": content, **_further(value, place)}


def _further(message: Message, place: str) -> Message:
    """What a message holds besides role and content, in the order of its keys; it must be JSON, as files hold it.

    `datasets` gives every message the keys of all others, as None: such keys are left out.
    """
    rest = {key: message[key] for key in message if key not in ("role", "content") and message[key] is not None}
    try:
        if rest:
            return dict(sorted(json.loads(json.dumps(rest, allow_nan=False)).items()))
    except (TypeError, ValueError, RecursionError):
        raise _refuse(place, f"{rest!r}"[:60], "text, numbers, lists and objects, as JSON has them") from None
    return rest


def _text_of_part(part: object, place: str) -> str:
    if isinstance(part, dict) and part.get("type", "text") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    raise _refuse(place, f"a content part of type {kind!r}", "parts of type 'text'")


def as_prompt(value: object, place: str) -> str:
    """A prompt as records hold it: text, or the canonical JSON of a conversation. Raises InputError naming `place`."""
    if not isinstance(value, str):
        return prompt_to_text(as_messages(value, place))
    return prompt_to_text(prompt_from_text(value, place))


def as_completion(value: object, place: str) -> str:
    """A completion as records hold it: its text; of a conversation that of its one assistant's turn.

    Raises InputError naming `place` for several turns, another role, or no text.
    """
    if isinstance(value, str):
        return value
    messages = as_messages(value, place)
    roles = ", ".join(message["role"] for message in messages)
    if roles != "assistant":
        raise _refuse(place, f"turns of {roles}"[:60], "one assistant's turn after the prompt")
    return str(messages[0]["content"])


def prompt_to_text(prompt: Text) -> str:
    """How records hold a prompt: text as it is, a conversation as JSON."""
    return prompt if isinstance(prompt, str) else json.dumps(prompt, ensure_ascii=False)


def prompt_from_text(text: str, place: str = "prompt") -> Text:
    """The inverse: text that is a JSON list of messages is a conversation, any other is plain.

    Raises InputError naming `place` for messages whose content has no text.
    """
    if not text.startswith("["):
        return text
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return as_messages(value, place) if _means_messages(value) else text


def _means_messages(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(_means_message(message) for message in value)


def _means_message(value: object) -> bool:
    if not isinstance(value, dict) or not any(keys <= value.keys() for keys in ({"role", "content"}, _SHAREGPT)):
        return False
    return isinstance(value.get("role", value.get("from")), str)


def assistant_turn(completion: str) -> Messages:
    """A completion as TRL gives it to reward functions when the prompt is a conversation."""
    return [{"role": "assistant", "content": completion}]


def joined(prompt: Text, completion: Text) -> Text:
    """Prompt and completion as one: text, or a conversation whose last assistant's message the completion continues.

    A text beside a conversation is its user's turn (a prompt) or its assistant's (a completion); a prompt may be given
    as records hold it.
    """
    prompt = prompt_from_text(prompt) if isinstance(prompt, str) else prompt
    if isinstance(prompt, str) and isinstance(completion, str):
        return prompt + completion
    user: Messages = [{"role": "user", "content": prompt}] if prompt else []
    before = user if isinstance(prompt, str) else as_messages(prompt, "prompt")
    after = assistant_turn(completion) if isinstance(completion, str) else as_messages(completion, "completion")
    if before and after and before[-1]["role"] == after[0]["role"] == "assistant":
        whole = {**before[-1], "content": before[-1]["content"] + after[0]["content"]}
        return [*before[:-1], whole, *after[1:]]
    return [*before, *after]


def in_turns(prompt: str) -> str:
    """A record's prompt for a reader: text as it is, a conversation with who said what."""
    turns = prompt_from_text(prompt)
    return turns if isinstance(turns, str) else "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)


def readable(prompt: Text, completion: Text) -> str:
    """Prompt and completion as one text for counting words: of a conversation the contents, one below the other."""
    whole = joined(prompt, completion)
    return whole if isinstance(whole, str) else "\n".join(message["content"] for message in whole)


def _refuse(place: str, got: str, expected: str) -> InputError:
    return InputError(place, got=got, expected=expected, fix="mend that row")
