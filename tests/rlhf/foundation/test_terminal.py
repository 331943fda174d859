"""What other people wrote reaches the terminal as letters, never as orders."""

from __future__ import annotations

import pytest

from rlhf.foundation.errors import InputError
from rlhf.foundation.terminal import plus_minus, shown


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("two\nlines\r\n\tof\u2028text", "two lines   of text"),
        ("\u202eevil\u2066", r"\u202eevil\u2066"),
        ("a\ud800b\x9b", r"a\ud800b\x9b"),
        ("José 👩\u200d👧 שלום", "José 👩\u200d👧 שלום"),
        ("", ""),
    ],
)
def test_nothing_that_a_terminal_obeys(text: str, line: str) -> None:
    assert shown(text) == line


def test_the_width_counts_what_is_shown() -> None:
    assert shown("abcdef", 6) == "abcdef"
    assert shown("abcdefg", 6) == "abc..."
    # Five characters, each shown as four: sixteen fit, so three and the dots, never a terminal wider than asked.
    assert shown("\x1b" * 5, 16) == r"\x1b\x1b\x1b\..."
    assert len(shown("x" * 100_000, 60)) == 60


def test_every_error_line_is_clean() -> None:
    error = InputError("file \x1b]0;x\x07.jsonl", got="\x1b[2J\nboo", expected="x", fix="add --map '\u202ey=positive'")
    assert str(error) == r"file \x1b]0;x\x07.jsonl: got \x1b[2J boo; expected x; add --map '\u202ey=positive'"
    assert error.got == "\x1b[2J\nboo"  # what was got stays as it was for those who look
    assert len(str(InputError("x", got="y" * 100_000, expected="z", fix="mend"))) < 1100


def test_an_unknown_error_is_never_shown_as_none() -> None:
    assert plus_minus(0.1234, 2) == "± 0.12"
    assert plus_minus(0.0, 2) == "± 0.00"
    assert plus_minus(None, 2) == "± ?"
