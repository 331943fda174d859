"""Files read row by row: the same rows, places and refusals as when a file was read whole; rows that are made late."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf.foundation import json_arrays
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import byte_lines, iter_jsonl, read_json, read_jsonl, write_jsonl
from rlhf.foundation.json_arrays import is_array, iter_array
from rlhf.foundation.lazy import Chained, Lazy
from rlhf.foundation.records import (
    Label,
    Sample,
    lazy_records,
    lazy_samples,
    read_labels,
    read_samples,
    write_records,
)
from rlhf.foundation.repeats import Keys

ROWS = [{"a": "x\u2028y"}, {"b": [1.5, None]}, {"c": "\ud800"}]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("begin", ["", "\ufeff"])
@pytest.mark.parametrize("last", [True, False])
def test_lines_end_as_they_did_when_a_file_was_read_whole(tmp_path: Path, begin: str, end: str, last: bool) -> None:
    lines = ['{"a": "x\u2028y"}', "", ' {"b": [1.5, null]}', "\u00a0 ", '{"c": "\\ud800"}']
    path = tmp_path / "a.jsonl"
    path.write_bytes((begin + end.join(lines) + (end if last else "")).encode())
    found = list(iter_jsonl(path))
    assert [line.row for line in found] == ROWS == read_jsonl(path)
    assert [line.number for line in found] == [1, 3, 5]
    content = path.read_bytes()
    assert [content[line.offset :].decode().lstrip()[:5] for line in found] == ['{"a":', '{"b":', '{"c":']
    assert b"".join(line for _, line in byte_lines(path)) == content.removeprefix(b"\xef\xbb\xbf")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}\n{"a": ', r"line 2: got a torn last line"),
        (b'{"a": 1}\n{"a": \n', r"line 2: got no valid JSON \(Expecting value\)"),
        (b'{"a": 1}\r{"a": 2}\r{"a": ', r"line 3: got a torn last line"),
        (b'{"a": 1}\n[2]\n', "line 2: got a JSON list"),
        (b'\xef\xbb\xbf{"a": 1}\n{"a": "\xff"}\n', "not UTF-8 at offset 19"),  # 3 + 9 + 7
    ],
)
def test_a_bad_line_is_named_after_the_good_ones(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    rows = iter_jsonl(path)
    assert next(rows).row == {"a": 1}
    with pytest.raises(InputError, match=message):
        list(rows)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for read in (read_labels, lambda path: lazy_records(Label, path), lambda path: list(iter_array(path)), is_array):
        with pytest.raises(InputError, match="no such file"):
            read(tmp_path / "a.jsonl")
        with pytest.raises(InputError, match="is a directory"):
            read(tmp_path)


NASTY: list[Any] = [
    1,
    -2.5e-7,
    "\U0001f600 é \u2028",
    "\ud800",
    [],
    {},
    [{"a": [None, True, "]},["]}],
    "",
    12345678901,
]


@pytest.mark.parametrize("ascii", [True, False])
@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 7, 64, 1 << 20])
def test_a_list_is_the_same_wherever_it_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, ascii: bool
) -> None:
    monkeypatch.setattr(json_arrays, "CHUNK", chunk)
    path = tmp_path / "a.json"
    values = [value for value in NASTY if ascii or value != "\ud800"]
    text = " [ " + " ,\n".join(json.dumps(value, ensure_ascii=ascii) for value in values) + " , NaN, -Infinity ]\n "
    path.write_text("\ufeff" + text, encoding="utf-8")
    told: list[int] = []
    *found, nan, infinite = iter_array(path, told.append)
    assert found == values
    assert nan != nan
    assert infinite == float("-inf")
    assert is_array(path)
    assert sum(told) == path.stat().st_size


@pytest.mark.parametrize("chunk", [3, 1 << 20])
@pytest.mark.parametrize(
    "text",
    ["[1, 2", "[1, 2,]", "[1 2]", '[1, "a]', "[1] 2", "[" * 20_000, "[1, {]", "[9" + "9" * 5000 + "]", '["a\nb"]'],
)
def test_what_is_no_list_is_refused_in_the_words_of_a_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, chunk: int
) -> None:
    monkeypatch.setattr(json_arrays, "CHUNK", chunk)
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as whole:
        read_json(path)
    with pytest.raises(InputError) as streamed:
        list(iter_array(path))
    assert str(streamed.value) == str(whole.value)


def test_bytes_that_are_not_utf8_in_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf["\xc3\xa9", "\xff"]')
    for chunk in (1, 2, 5, 1 << 20):
        monkeypatch.setattr(json_arrays, "CHUNK", chunk)
        with pytest.raises(InputError, match="not UTF-8 at offset 11"):
            list(iter_array(path))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_records_that_are_read_when_asked_for(tmp_path: Path, end: str) -> None:
    path = tmp_path / "labels.jsonl"
    labels = [Label(f"u{i}", "", f"té\u2028xt {i} \ud800", "positive", "ana", lead_time=float(i)) for i in range(5)]
    write_records(path, labels)
    path.write_bytes(path.read_bytes().replace(b"\n", end.encode()))
    lazy = lazy_records(Label, path)
    assert lazy == labels == read_labels(path)
    assert [lazy[i] for i in (4, 0, -1, 2)] == [labels[i] for i in (4, 0, -1, 2)]
    write_jsonl(tmp_path / "other", [{"a": 1}])
    (tmp_path / "other").replace(path)  # another file takes the name: the first one is still meant
    assert lazy[3] == labels[3]
    changed = lazy_records(Sample, save_samples(path))
    path.write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="changed while it was read"):
        changed[1]


def save_samples(path: Path) -> Path:
    write_records(path, [Sample(f"u{i}", "", f"t {i}", "m") for i in range(3)])
    return path


def test_a_uid_that_comes_twice_is_named_at_its_second_place(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    write_records(path, [Sample(uid, "", "t", "m") for uid in ("a", "b", "c", "b", "a")])
    for read in (read_samples, lazy_samples):
        with pytest.raises(InputError, match=r"record 4: got uid b a second time"):
            read(path)


def test_lazy_rows_are_a_list_to_whoever_looks() -> None:
    made: list[int] = []
    rows = Lazy(lambda place: (made.append(place), place * 10)[1], [3, 1, 2])
    assert not made
    assert rows == [30, 10, 20]
    assert rows != [30, 10]
    assert (rows[-1], list(rows[1:]), len(rows)) == (20, [10, 20], 3)
    both = Chained(rows, [], [7, 8])
    assert list(both) == [both[i] for i in range(5)] == [30, 10, 20, 7, 8]
    assert list(both[2:4]) == [20, 7]
    with pytest.raises(IndexError):
        both[5]


@given(st.lists(st.sampled_from("abcdef"), max_size=30))
def test_keys_are_grouped_and_numbered_as_sets_and_dictionaries_do(words: list[str]) -> None:
    keys = Keys()
    for word in words:
        keys.add(word)
    numbers: dict[str, int] = {}
    expected = [numbers.setdefault(word, len(numbers)) for word in words]
    found, first = keys.numbers()
    assert found.tolist() == expected
    assert first.tolist() == [words.index(word) for word in numbers]
    several = [word for word, n in Counter(words).items() if n > 1]
    assert [g.tolist() for g in keys.groups()] == [[i for i, w in enumerate(words) if w == word] for word in several]
