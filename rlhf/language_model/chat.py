"""Conversations as prompts: lists of {"role", "content"}, as in TRL's conversational data sets.

Models see them through their tokenizer's chat template; files hold them as JSON in the `prompt` field, which is what
`rlhf label push --prompt_format messages` shows as turns.
"""

from __future__ import annotations

import json
from typing import Any

from jinja2 import TemplateError

from rlhf.foundation.errors import InputError

Messages = list[dict[str, Any]]
Prompt = str | Messages


def is_messages(value: object) -> bool:
    """Whether `value` is a list of at least one {"role", "content"} of text."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str) for m in value
        )
    )


def prompt_to_text(prompt: Prompt) -> str:
    """How files hold a prompt: text as it is, a conversation as JSON."""
    return prompt if isinstance(prompt, str) else json.dumps(prompt, ensure_ascii=False)


def prompt_from_text(text: str) -> Prompt:
    """The inverse: text that is a JSON list of messages is a conversation, any other is plain."""
    if not text.startswith("["):
        return text
    try:
        value: Any = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return text
    return value if is_messages(value) else text


def assistant_turn(completion: str) -> Messages:
    """A completion as TRL gives it to reward functions when the prompt is a conversation."""
    return [{"role": "assistant", "content": completion}]


def chat_ids(tokenizer: Any, messages: Messages) -> list[int]:
    """A conversation as ids, up to where the assistant's turn begins; an assistant's last message is continued.

    Raises InputError when the messages are none, the last role cannot be answered, or there is no chat template.
    """
    if not is_messages(messages):
        raise InputError(
            "prompt",
            got=repr(messages)[:60],
            expected='a list of {"role", "content"} of text, at least one',
            fix="mend that row",
        )
    if getattr(tokenizer, "chat_template", None) is None:
        raise InputError(
            "tokenizer",
            got="no chat template, but a conversation to read",
            expected="a chat template",
            fix="set `tokenizer.chat_template` and save the tokenizer again, or give prompts as plain text",
        )
    role = messages[-1]["role"]
    if role not in ("user", "tool", "assistant"):
        raise InputError(
            "prompt",
            got=f"a conversation that ends with the role {role!r}",
            expected="user, tool, or an assistant's message to continue",
            fix="end it with a user's message",
        )
    continued = role == "assistant"
    try:
        encoded = tokenizer.apply_chat_template(
            messages,
            tokenize=True,
            return_dict=True,
            add_generation_prompt=not continued,
            continue_final_message=continued,
        )
    except (TemplateError, ValueError) as error:
        raise InputError(
            "chat template", got=str(error), expected="messages that the template can write", fix="mend that row"
        ) from error
    return [int(i) for i in encoded["input_ids"]]
