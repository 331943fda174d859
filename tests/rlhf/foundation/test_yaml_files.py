"""YAML means what it says, or is refused with its line; JSON that Python cannot hold is one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_json, read_jsonl
from rlhf.foundation.yaml_files import read_yaml


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1:30", r"1:30, a number that YAML reads in its own way \(line 1\)"),  # 90
        ("b: 1\na: 010", r"010, .* \(line 2\)"),  # 8
        ("a: 1_000", "1_000, a number"),
        ("a: 1\nb: 2\na: 3", r"the key 'a' a second time \(line 3\)"),
        ("a: {b: 1, b: 2}", "the key 'b' a second time"),
        ("a: &x [*x]", "a YAML that contains itself"),
        ("a: " + "[" * 20_000, "no valid YAML"),
        ("[1, 2]", "a YAML list"),
        ("a: [", "no valid YAML"),
        ("a: 1" + "0" * 5_000, "no valid YAML"),
        ("a: !!python/object:os.system {}", "could not determine a constructor"),
    ],
)
def test_what_could_mean_something_else_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_yaml(tmp_path / "a.yaml", "--config a.yaml")
    assert "\n" not in str(caught.value)


def test_ordinary_values_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "n: 10\nrate: 1.0e-4\nbare: 5e-4\nhash: 1e5a\nzero: 0\nname: '010'\nlist: [1, 2]\nnone:\nhost: a:30\n"
    )
    assert read_yaml(tmp_path / "a.yaml", "a") == {
        "n": 10, "rate": 1e-4, "bare": 5e-4, "hash": "1e5a", "zero": 0, "name": "010",
        "list": [1, 2], "none": None, "host": "a:30",
    }  # fmt: skip
    (tmp_path / "empty.yaml").write_text("")
    assert read_yaml(tmp_path / "empty.yaml", "a") == {}


@pytest.mark.parametrize(
    ("text", "message"), [("[" * 20_000, "nested too deep"), ('{"a": 1' + "0" * 5_000 + "}", "thousands of digits")]
)
def test_json_that_python_cannot_hold_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.json").write_text(text)
    (tmp_path / "a.jsonl").write_text(text + "\n")
    for read in (read_json, read_jsonl):
        with pytest.raises(InputError, match=message):
            read(tmp_path / f"a.json{'l' if read is read_jsonl else ''}")
