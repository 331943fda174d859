"""Templates in which a text is shown to whoever scores it: {prompt}, {completion}, and whatever else is named.

A conversation is filled in as a reader has it: who said what in the prompt, and what the answer says.
"""

from __future__ import annotations

import string
from collections.abc import Collection

from rlhf.foundation.conversation import Text, in_turns, prompt_to_text
from rlhf.foundation.errors import InputError


def require_fields(template: str, what: str, needed: Collection[str], optional: Collection[str] = ()) -> None:
    """Raise InputError, naming `what`, unless a template has every needed field and no other than the optional."""
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]
    except ValueError as error:
        got, expected = f"a template that cannot be read ({error})", " and ".join(_braced([*optional, *needed]))
        raise InputError(what, got=got, expected=expected, fix="mend it") from None
    if not set(needed) <= set(fields) or not set(fields) <= {*needed, *optional}:
        got = f"a template with {', '.join(_braced(fields)) or 'no field'}"
        also = f", and {', '.join(_braced(optional))} if it is to be read" if optional else ""
        expected = f"{', '.join(_braced(needed))}{also}"
        raise InputError(what, got=got, expected=expected, fix="write other braces doubled")


def prompt_text(prompt: Text) -> str:
    """A prompt for a reader: text as it is, of a conversation who said what."""
    return in_turns(prompt_to_text(prompt))


def completion_text(completion: Text) -> str:
    """A completion for a reader: what it says, of several turns one below the other."""
    return completion if isinstance(completion, str) else "\n".join(turn["content"] for turn in completion)


def _braced(fields: Collection[str]) -> list[str]:
    return [f"{{{field}}}" for field in fields]
