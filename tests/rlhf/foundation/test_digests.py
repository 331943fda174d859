"""Digests take everything in: every byte of a file however large, every value of a record, every file of a place."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from rlhf.foundation.digests import SEAL, damages, digest_files, file_digest, seal_holds, sealed, value_digest

MEGABYTE = 2**20


@pytest.mark.parametrize("at", [0, MEGABYTE - 1, MEGABYTE, 2 * MEGABYTE + 17, 3 * MEGABYTE - 1])
def test_every_byte_of_a_large_file_counts(tmp_path: Path, at: int) -> None:
    content = bytearray(3 * MEGABYTE)
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    before, recorded = file_digest(path), digest_files(tmp_path, ".")
    assert before == hashlib.sha256(content).hexdigest()
    content[at] = 1
    path.write_bytes(content)
    assert file_digest(path) != before
    assert list(damages(tmp_path, recorded)) == ["model.safetensors was changed since it was written"]


def test_every_damage_is_told(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    for name in ("a", "below/b", "below/c"):
        (tmp_path / name).write_text(name)
    recorded = digest_files(tmp_path, "a", "below")
    assert list(recorded) == ["a", "below/b", "below/c"]
    (tmp_path / "a").write_text("b")
    (tmp_path / "below" / "b").unlink()
    (tmp_path / "below" / "c").write_text("c")
    said = ["a was changed since it was written", "below/b is gone", "below/c has 1 bytes where 7 were written"]
    assert list(damages(tmp_path, recorded)) == said
    assert list(damages(tmp_path, recorded, sizes_only=True)) == said[1:]


@pytest.mark.parametrize(
    ("before", "after", "holds"),
    [
        ({"a": 1.0}, {"a": 1.0000000000000002}, False),
        ({"a": {"b": [1, None]}}, {"a": {"b": [1, 0]}}, False),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": 1, "b": 2}, {"a": 1}, False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),  # the order of keys says nothing
        ({1: "x", 10: "y", 2: "z"}, {"1": "x", "2": "z", "10": "y"}, True),  # keys are texts once written
    ],
)
def test_a_seal_holds_as_long_as_the_content(before: Any, after: Any, holds: bool) -> None:
    seal = sealed(before)[SEAL]
    assert seal_holds(json.loads(json.dumps({**after, SEAL: seal}))) is holds
    assert sealed(sealed(before)) == sealed(before)
    assert seal_holds(before) is None


def test_what_json_has_no_word_for_counts_by_its_type() -> None:
    assert value_digest({"a": Path("x")}) == value_digest({"a": Path("y")}) != value_digest({"a": object()})
