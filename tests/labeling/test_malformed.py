"""Exports, tables and answers files of other shapes: one line that says where, exit 2, nothing written."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from labeling.answers import collect
from labeling.folder import Folder
from labeling.steps.page import PageConfig, page
from rlhf import cli
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import Sample, write_records

CHOICE = {"from_name": "sentiment", "to_name": "text", "type": "choices", "value": {"choices": ["Positive"]}}
ANNOTATION = {"id": 1, "completed_by": 5, "updated_at": "2026-01-01T00:00:00Z", "lead_time": 1.0, "result": [CHOICE]}
TASK = {"id": 1, "data": {"text": "a"}, "annotations": [ANNOTATION], "drafts": []}
PLACES = {"task": (), "annotation": ("annotations", 0), "result": ("annotations", 0, "result", 0)}
PLACES["value"] = (*PLACES["result"], "value")
DEEP = "[" * 20_000 + "]" * 20_000


def changed(place: str, **fields: Any) -> str:
    """The export with other fields at one place; `...` takes a field away."""
    items = copy.deepcopy([TASK])
    at: Any = items[0]
    for step in PLACES[place]:
        at = at[step]
    at.update(fields)
    for name in [name for name, value in fields.items() if value is ...]:
        del at[name]
    return json.dumps(items)


REFUSED = [
    ("", "no valid JSON"),
    ("null", "JSON without tasks"),
    ("3", "JSON without tasks"),
    ("[]", "JSON without tasks"),
    ("{}", "JSON without tasks"),
    ("[1, 2]", "JSON without tasks"),
    ("[null]", "JSON without tasks"),
    ("[{}]", "no column text"),
    ('[{"text": "a"}]', "no column sentiment"),
    ('[{"text": null, "sentiment": "positive"}]', "row 1, text"),
    ("[9" + "9" * 5000 + "]", "no valid JSON"),
    (DEEP, "no valid JSON"),
    ("[" + json.dumps(TASK) + ", 7]", "JSON without tasks"),
    ('[{"id": 1, "data": {"text": "a"}}]', "JSON without tasks"),
    ('[{"id": 1, "data": {"text": "a"}, "completions": []}]', "JSON without tasks"),
    (changed("task", data=None), "task 1, data: got nothing; expected an object"),
    (changed("task", data=...), "task 1, data: got nothing"),
    (changed("task", data="s3://bucket/a.json"), "task 1, data: got 's3"),
    (changed("task", data=["a"]), "task 1, data"),
    (changed("task", data={"body": "a"}), "no column text; expected one of body"),
    (changed("task", data={"text": None}), "task 1, text: got "),
    (changed("task", data={"text": {"a": 1}}), "task 1, text"),
    (changed("task", annotations=5), "task 1, annotations: got 5; expected a list"),
    (changed("task", annotations="x"), "task 1, annotations"),
    (changed("task", annotations={"a": 1}), "task 1, annotations"),
    (changed("task", annotations=[3]), "annotation 1: got 3; expected an object"),
    (changed("task", annotations=[None]), "annotation 1: got nothing"),
    (changed("task", annotations=["x"]), "annotation 1: got 'x'"),
    (changed("task", annotations=[[]]), r"annotation 1: got \[\]"),
    (changed("task", annotations=[]), "nobody answered"),
    (changed("task", annotations=None), "nobody answered"),
    (changed("task", drafts=4), "task 1, drafts: got 4"),
    (changed("annotation", result={"a": 1}), "annotation 1, result: got {'a': 1}; expected a list"),
    (changed("annotation", result="Positive"), "annotation 1, result"),
    (changed("annotation", result=7), "annotation 1, result"),
    (changed("annotation", result=["Positive"]), "annotation 1, result: got 'Positive'; expected an object"),
    (changed("annotation", completed_by=[5]), r"completed_by: got \[5\]"),
    (changed("annotation", completed_by=1.5), "completed_by: got 1.5"),
    (changed("annotation", completed_by={"id": [5]}), "completed_by"),
    (changed("annotation", completed_by=True), "completed_by: got True"),
    (changed("annotation", updated_at=5), "got the time 5"),
    (changed("annotation", updated_at="yesterday"), "got the time 'yesterday'"),
    (changed("annotation", updated_at="0001-01-01T00:00:00+14:00"), "got the time"),
    (changed("annotation", updated_at=["x"]), "got the time"),
    (changed("annotation", lead_time="long"), "lead_time: got 'long'"),
    (changed("annotation", lead_time=float("nan")), "lead_time: got nan"),
    (changed("annotation", lead_time=float("inf")), "lead_time: got inf"),
    (changed("annotation", lead_time=10**400), "lead_time: got 1000"),
    (changed("annotation", lead_time=[1]), r"lead_time: got \[1\]"),
    (changed("annotation", was_cancelled="perhaps"), "was_cancelled: got 'perhaps'"),
    (changed("annotation", ground_truth=[1]), "ground_truth"),
    (changed("result", value="Positive"), "annotation 1, value: got 'Positive'"),
    (changed("result", value=["Positive"]), "annotation 1, value"),
    (changed("result", type="brush", value={"rle": [1]}), "a result of type brush"),
    (changed("result", type=["choices"]), r"a result of type \['choices'\]"),
    (changed("result", from_name=None), "no label at all"),
    (changed("result", from_name=["sentiment"]), "no control 'sentiment'|no label at all"),
    (changed("value", choices=[3]), "annotation 1, control 'sentiment': got the value 3"),
    (changed("value", choices=3), "got the value 3"),
    (changed("value", choices=[None]), "got the value None"),
    (changed("value", choices={"a": 1}), "got the value {'a': 1}"),
    (changed("value", choices=[["a", 1]]), r"got the value \['a', 1\]"),
    (changed("value", choices=["Wonderful"]), "label values 'Wonderful'"),
    (changed("result", type="rating", value={"rating": "4"}), "got the value '4'"),
    (changed("result", type="rating", value={"rating": [4]}), "got the value"),
    (changed("result", type="pairwise", value={"selected": 3}), "got the value 3"),
    (changed("result", type="pairwise", value={"selected": ["left"]}), "got the value"),
    (changed("result", type="number", value={"number": True}), "got the value True"),
]
READ = [
    changed("task", id=None),
    changed("task", id=...),
    changed("task", id="5b1d-4e3c"),
    changed("task", id=[1]),
    changed("task", drafts=None),
    changed("annotation", id="a1"),
    changed("annotation", id=None),
    changed("annotation", id=1.5),
    changed("annotation", lead_time=-3),
    changed("annotation", lead_time=None),
    changed("annotation", completed_by="ana"),
    changed("result", type=...),
    changed("value", choices="Positive"),
    "\ufeff" + json.dumps([TASK]),
]


def import_it(tmp_path: Path, text: str) -> int:
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    return cli.main(["label", "import", "--input", str(path), "--output", str(tmp_path / "labels.jsonl")])


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[m[:40] for _, m in REFUSED])
def test_malformed_exports(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, message: str) -> None:
    assert import_it(tmp_path, text) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert re.search(message, line), line
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("text", READ)
def test_odd_exports_that_say_enough(tmp_path: Path, text: str) -> None:
    assert import_it(tmp_path, text) == 0


ANSWER = {"uid": "u0", "choice": "Positive", "lead_time": 1.0, "at": "2026-01-01T00:00:00Z"}
FILES: list[tuple[dict[str, Any], str]] = [
    ({"annotator": 5}, "annotator: got 5; expected a text"),
    ({"annotator": {}}, "annotator: got {}"),
    ({"annotator": " "}, "no annotator"),
    ({"annotator": None}, "annotator: got None"),
    ({"answers": {}}, "JSON of another shape"),
    ({"answers": [3]}, "answer 1: got 3"),
    ({"answers": [None]}, "answer 1: got None"),
    ({"answers": [{**ANSWER, "uid": ["u0"]}]}, r"answer 1, uid: got \['u0'\]"),
    ({"answers": [{**ANSWER, "uid": {}}]}, "answer 1, uid"),
    ({"answers": [{**ANSWER, "choice": 1}]}, "answer 1, choice: got 1"),
    ({"answers": [{**ANSWER, "choice": ["Positive"]}]}, "answer 1, choice"),
    ({"answers": [ANSWER, {**ANSWER, "lead_time": float("nan")}]}, "answer 2: got nan"),
    ({"answers": [{**ANSWER, "lead_time": "fast"}]}, "answer 1: got 'fast'"),
    ({"answers": [{**ANSWER, "at": 5}]}, "answer 1, at: got 5"),
    ({"answers": [{**ANSWER, "at": "noon"}]}, "answer 1, at: got the time 'noon'"),
    ({"session": 4}, "session: got 4"),
    ({"saved_at": "noon"}, "saved_at: got the time 'noon'"),
    ({"packet": ["x"]}, "answers to packet"),
    ({"packet": None}, "answers to packet None"),
]


@pytest.mark.parametrize(("fields", "message"), FILES, ids=[m[:40] for _, m in FILES])
def test_malformed_answers_files(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    write_records(tmp_path / "samples.jsonl", [Sample("u0", "", "a", "m"), Sample("u1", "", "b", "m")])
    folder = Folder(tmp_path / "folder")
    page.run(PageConfig(output_dir=str(folder.path), samples=str(tmp_path / "samples.jsonl")))
    row = {"packet": folder.need_plan().packet, "annotator": "ana", "answers": [ANSWER], **fields}
    (tmp_path / "answers.json").write_text(json.dumps(row), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        collect(folder, [tmp_path / "answers.json"])
    assert not (folder.path / "labels.jsonl").exists()
    assert not (folder.path / "answers").exists()


def test_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["label", "import", "--input", str(tmp_path / "no.json"), "--output", str(tmp_path / "labels.jsonl")]
    assert cli.main(words) == 2
    assert "no such file" in capsys.readouterr().err
