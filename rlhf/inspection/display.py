"""Text of a language model made safe to look at: it can be long, hostile, or not even text."""

from __future__ import annotations

import json
import re
import unicodedata

# Characters that reorder or hide what stands around them: shown by name, so that a reader sees them.
# The zero-width joiners stay as they are: emoji and several scripts are written with them.
BIDI = re.compile("[\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
SURROGATE = re.compile("[\ud800-\udfff]")


def display_text(text: str, cap: int) -> str:
    """`text` cut to `cap` characters with a note of what was cut; control and direction characters made visible."""
    shown = text[:cap]
    shown = CONTROL.sub(lambda m: chr(0x2400 + ord(m[0])) if ord(m[0]) < 0x20 else "\u2421", shown)
    shown = BIDI.sub(lambda m: f"⟨{unicodedata.name(m[0], hex(ord(m[0]))).lower()}⟩", shown)
    shown = SURROGATE.sub("\ufffd", shown)
    return shown if len(text) <= cap else f"{shown} … ({len(text) - cap:,} more characters)"


def script_json(value: object) -> str:
    """JSON that may stand inside a <script> element: nothing in it can end the element or open a comment.

    Raises ValueError on NaN or infinity, which JSON has not.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return SURROGATE.sub("\ufffd", text)
