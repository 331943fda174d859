"""Other people's strings on a terminal: one line, and nothing in it that a terminal would obey."""

from __future__ import annotations

import os
import re
import unicodedata

JOINERS = "\u200c\u200d"  # emoji and several scripts are written with them
UNSHOWABLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # control, format (bidi overrides among them), surrogates, line separators


def shown(text: object, width: int | None = None) -> str:
    """`text` on one line of at most `width` characters (None: any): white space becomes a space, the rest escapes.

    ESC becomes `\\x1b`, a right-to-left override `\\u202e`; letters, marks, emoji and ordinary spaces stay. What is cut
    off is told by three dots.
    """
    line = "".join(map(_visible, str(text) if width is None else str(text)[: width + 1]))
    return line if width is None or len(line) <= width else line[: max(0, width - 3)] + "..."


SECRET = re.compile(r"TOKEN|KEY|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
USER = re.compile(r"(?<=://)[^/\s@]+@")


def without_secrets(text: str) -> str:
    """`text` without what a secret variable of the environment holds, and without users and passwords in addresses.

    A variable is secret by its name (HF_TOKEN, LABEL_STUDIO_API_KEY, ...), and from eight characters on.
    """
    values = {value for name, value in os.environ.items() if SECRET.search(name) and len(value) >= 8}
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, "***")
    return USER.sub("***@", text)


def plus_minus(error: float | None, digits: int) -> str:
    """`± 0.12` for a standard error; `± ?` for one that nobody knows, as of a single value."""
    return "± ?" if error is None else f"± {error:.{digits}f}"


def say(text: object) -> None:
    """Print lines in which file names and other people's strings may stand, each fit for a terminal."""
    print("\n".join(map(shown, str(text).split("\n"))))


def _visible(character: str) -> str:
    if character == " " or unicodedata.category(character) not in UNSHOWABLE or character in JOINERS:
        return character
    return " " if character.isspace() else character.encode("unicode_escape").decode("ascii")
