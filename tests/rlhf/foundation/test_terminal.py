"""What other people wrote reaches the terminal as letters, never as orders."""

from __future__ import annotations

import pytest

from rlhf.cli import run
from rlhf.foundation.errors import InputError
from rlhf.foundation.terminal import plus_minus, shown, without_secrets


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


def test_secrets_of_the_environment_and_passwords_in_addresses_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_planted123")
    monkeypatch.setenv("MY_API_KEY", "hf_planted123456")
    monkeypatch.setenv("CACHE_KEY", "short")
    text = "401 for hf_planted123456, then hf_planted123 at https://me:word@host/x; short stays"
    assert without_secrets(text) == "401 for ***, then *** at https://***@host/x; short stays"
    error = InputError("reward", got="RuntimeError: bearer hf_planted123", expected="a number", fix="mend it")
    assert "planted" not in str(error)


@pytest.mark.parametrize("kind", ["InputError", "a fault of ours"])
def test_no_secret_in_a_line_or_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "planted-key-1")

    def command(arguments: list[str]) -> None:
        if kind == "InputError":
            raise InputError("judge", got="planted-key-1", expected="b", fix="c")
        raise RuntimeError("judge said planted-key-1")

    assert run(command, []) == (2 if kind == "InputError" else 1)
    said = capsys.readouterr().err
    assert "judge" in said
    assert "planted" not in said
