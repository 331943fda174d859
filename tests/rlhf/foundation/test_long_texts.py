"""A record beyond all length is named with its size by every reader, as soon as so much of it was read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labeling.importing import import_labels
from labeling.tables import Columns, read_rows
from rlhf.evaluation.evaluate import read_documents
from rlhf.foundation import long_texts, yaml_files
from rlhf.foundation.data_sets import load_data_set
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import byte_lines, read_json, read_jsonl
from rlhf.foundation.json_arrays import iter_array
from rlhf.foundation.long_texts import require_short
from rlhf.foundation.records import read_samples
from rlhf.foundation.yaml_files import read_yaml
from rlhf.language_model.corpus import read_corpus
from rlhf.language_model.prompt_files import read_prompts

LIMIT = 100
GOOD, LONG = "a" * 20, "x" * 640
SAMPLE = {"uid": "a", "prompt": "", "completion": GOOD, "source": "m"}
TASK = {"id": 1, "data": {"text": LONG}, "annotations": []}


@pytest.fixture(autouse=True)
def limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_texts, "LONGEST", LIMIT)
    monkeypatch.setattr(yaml_files, "LONGEST", LIMIT)
    monkeypatch.setattr("rlhf.foundation.json_arrays.CHUNK", 64)


def import_it(path: Path) -> object:
    return import_labels(path, Columns(text="text", label="label"))


def lines_of(path: Path) -> list[tuple[int, bytes]]:
    return list(byte_lines(path))


# What is read, its name and content, and what the line says.
REFUSED: dict[str, tuple[Callable[[Path], Any], str, str, str]] = {
    "JSON lines": (
        read_jsonl, "a.jsonl", json.dumps({"a": GOOD}) + "\n" + json.dumps({"a": LONG}) + "\n",
        "a.jsonl, line 2: got a record of 649 bytes; expected at most 100",  # 640 and {"a": ""}
    ),
    "one JSON line without an end": (
        read_jsonl, "a.jsonl", json.dumps({"a": LONG}), "a.jsonl, line 1: got a record of 649 bytes",
    ),
    "lines that end in a carriage return": (
        lines_of, "a.txt", f"{GOOD}\r{LONG}\r{GOOD}\r", "a.txt, line 2: got a record of 640 bytes",
    ),
    "lines that end in both": (
        lines_of, "a.txt", f"{GOOD}\r\n{LONG}\r\n{GOOD}", "a.txt, line 2: got a record of 640 bytes",
    ),
    "samples": (
        lambda path: read_samples(path), "a.jsonl", json.dumps(SAMPLE) + "\n" + json.dumps({"uid": "b" * 640}) + "\n",
        "a.jsonl, line 2: got a record of 651 bytes",
    ),
    "a text of a JSON file": (
        read_json, "a.json", json.dumps({"answers": [{"uid": "a"}, {"choice": LONG}]}),
        "a.json, answers, item 2, choice: got a record of 640 characters",
    ),
    "a name in a JSON file": (
        read_json, "a.json", json.dumps({"answers": {LONG: 1}}), "a.json, answers, a name: got a record of 640",
    ),
    "an item of a JSON list": (
        lambda path: list(iter_array(path)), "a.json", json.dumps([GOOD, LONG, GOOD]),
        "a.json, item 2: got a record of more than 117 characters",  # 39 of the first 64 are its own, then 78 were read
    ),
    "a cell": (
        lambda path: list(read_rows(path)), "a.csv", f"text,label\n{GOOD},positive\n{LONG},positive\n",
        "a.csv, line 3: got a record of 649 bytes",
    ),
    "a cell of many lines": (
        lambda path: list(read_rows(path)), "a.csv", 'text,label\n"' + f"{GOOD}\n" * 30 + '",positive\n',
        "a.csv, line 2: got a record of more than 100 characters",
    ),
    "an export": (import_it, "a.json", json.dumps([TASK]), "a.json, item 1: got a record of more than "),
    "a table of labels": (import_it, "a.tsv", f"text\tlabel\n{LONG}\tpositive\n", "a.tsv, line 2: got a record of 649"),
    "prompts, one a line": (
        lambda path: read_prompts(str(path)), "a.txt", f"{GOOD}\n{LONG}\n", "a.txt, line 2: got a record of 640 bytes",
    ),
    "prompts in a table": (
        lambda path: load_data_set(str(path), "train"), "a.csv", f"prompt,n\n{GOOD},1\n{LONG},2\n",
        "a.csv, row 2, prompt: got a record of 640 characters",
    ),
    "a document": (
        lambda path: read_corpus(str(path)), "a.txt", f"{GOOD}\n\n{LONG}\n\n{GOOD}",
        "a.txt, item 2: got a record of 640 characters",
    ),
    "held-out text": (
        lambda path: read_documents(str(path), heldout=True), "a.txt", f"{GOOD}\n\n" * 6, "a.txt: got a record of 132",
    ),
    "a paragraph of a corpus": (
        lambda path: read_documents(str(path), heldout=False), "a.txt", f"{GOOD}\n\n{LONG}",
        "a.txt, item 2: got a record of 640",
    ),
    "YAML": (
        lambda path: read_yaml(path, "--config a.yaml"), "a.yaml", f"a: {LONG}\n",
        "--config a.yaml: got 644 characters; expected at most 100",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_a_record_beyond_all_length_is_named_with_its_size(tmp_path: Path, kind: str) -> None:
    read, name, content, says = REFUSED[kind]
    (tmp_path / name).write_bytes(content.encode())
    with pytest.raises(InputError) as caught:
        read(tmp_path / name)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [98, 99, 100])
def test_a_line_of_all_lengths_up_to_the_limit(tmp_path: Path, end: str, size: int) -> None:
    """Its end counts, as it is read with it: the longest has 100 bytes with "\\n"."""
    lines = ["a" * (size - len(end)) + end, "b" * 3 + end, "c" * (size - len(end)) + end] * 3
    (tmp_path / "a.txt").write_bytes("".join(lines).encode())
    assert [line.decode() for _, line in byte_lines(tmp_path / "a.txt")] == lines


def test_many_short_records_are_no_long_one(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([GOOD] * 50))
    assert read_json(tmp_path / "a.json") == list(iter_array(tmp_path / "a.json")) == [GOOD] * 50
    (tmp_path / "a.txt").write_text(f"{GOOD}\n\n" * 50)
    assert len(read_corpus(str(tmp_path / "a.txt"))) == 50
    deep: Any = GOOD
    for _ in range(5000):
        deep = [deep]
    require_short(deep, "deep")
