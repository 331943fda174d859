"""A digest is of everything: the last byte of a long file, every key of a value, every file that was recorded."""

from __future__ import annotations

import hashlib
from pathlib import Path

from rlhf.foundation.digests import damage, digest_files, file_digest, value_digest


def test_the_last_byte_of_a_long_file_counts(tmp_path: Path) -> None:
    content = b"a" * (3 << 20)
    (tmp_path / "one").write_bytes(content + b"a")
    (tmp_path / "two").write_bytes(content + b"b")
    assert file_digest(tmp_path / "one") == hashlib.sha256(content + b"a").hexdigest()
    assert file_digest(tmp_path / "two") != file_digest(tmp_path / "one")


def test_values_are_the_same_in_any_order_of_their_keys_and_in_no_other_way() -> None:
    assert value_digest({"a": 1, "b": [1, 2]}) == value_digest({"b": [1, 2], "a": 1})
    others = [{"a": 1, "b": [2, 1]}, {"a": 1}, {"a": "1", "b": [1, 2]}, {"a": 1, "b": [1, 2], "c": None}, None, "", []]
    assert len({value_digest(value) for value in [{"a": 1, "b": [1, 2]}, *others]}) == 8
    assert value_digest({"f": print}) != value_digest({"f": 1})  # a thing that is no JSON counts by its type


def test_every_kind_of_damage_has_its_word(tmp_path: Path) -> None:
    (tmp_path / "rung").mkdir()
    weights = tmp_path / "rung" / "weights"
    weights.write_bytes(b"0123456789")
    (tmp_path / "samples").write_text("text")
    known = digest_files(tmp_path, "rung", "samples")
    assert sorted(known) == ["rung/weights", "samples"]
    assert damage(tmp_path, known) is None
    weights.write_bytes(b"0123456780")  # as long as before
    assert damage(tmp_path, known) == "rung/weights was changed since it was written"
    assert damage(tmp_path, known, sizes_only=True) is None
    weights.write_bytes(b"0123")
    assert damage(tmp_path, known, sizes_only=True) == "rung/weights has 4 bytes where 10 were written"
    weights.unlink()
    assert damage(tmp_path, known, sizes_only=True) == "rung/weights is gone"
