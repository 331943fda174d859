"""Text made fit for a labelling screen: one lone surrogate stored once makes every later export a server error.

Only what breaks is touched: newlines, tags, emoji and right-to-left text pass unchanged (Label Studio and the
offline page escape what a browser would read as markup).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

# A screen of 1 MB puts the buttons 174,000 pixels down; twenty thousand characters are about ten printed pages.
MAX_CHARACTERS = 20_000
REPLACEMENT = "\ufffd"
LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # a Python str holds no pairs, so every surrogate in it is alone


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A text that can be shown, and what was done to it; `refused` says why it cannot be shown, or is ""."""

    text: str
    changes: tuple[str, ...] = ()
    refused: str = ""


def clean_text(text: str, *, max_characters: int = MAX_CHARACTERS) -> Cleaned:
    """Replace lone surrogates and NUL by U+FFFD and cut at `max_characters`; an empty text is refused."""
    if not text.strip():
        return Cleaned(text, refused="empty text")
    changes = []
    if LONE_SURROGATE.search(text):
        text = LONE_SURROGATE.sub(REPLACEMENT, text)
        changes.append("lone surrogate replaced")
    if "\0" in text:
        text = text.replace("\0", REPLACEMENT)
        changes.append("NUL replaced")
    if len(text) > max_characters:
        text = text[:max_characters]
        changes.append(f"cut to {max_characters} characters")
    return Cleaned(text, tuple(changes))


def count_changes(cleaned: list[Cleaned]) -> Counter[str]:
    """How many texts had each change or refusal."""
    return Counter(word for item in cleaned for word in (*item.changes, *([item.refused] if item.refused else [])))
