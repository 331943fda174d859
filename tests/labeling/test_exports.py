"""Exports of Label Studio as projects leave them: merged, answered twice, by people under several names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labeling.annotations import UNTIMED
from labeling.importing import REFERENCE, Imported, import_comparisons, import_labels
from labeling.steps.import_labels import ImportConfig
from labeling.steps.import_labels import import_labels as label_import
from labeling.tables import Columns
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import read_labels

Rows = list[dict[str, Any]]


def result(value: Any, kind: str = "choices", control: str = "sentiment", key: str = "") -> dict[str, Any]:
    return {"from_name": control, "to_name": "text", "type": kind, "value": {key or kind: value}}


def choice(*names: str, control: str = "sentiment") -> dict[str, Any]:
    return result(list(names), control=control)


def annotation(by: Any, *results: dict[str, Any], time: str = "2026-01-01T00:00:00Z", **more: Any) -> dict[str, Any]:
    return {"id": 1, "completed_by": by, "updated_at": time, "result": list(results), **more}


def task(text: str, *annotations: dict[str, Any], id: Any = 1) -> dict[str, Any]:
    return {"id": id, "data": {"text": text}, "annotations": list(annotations)}


def save(path: Path, value: object) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8", newline="")
    return path


def read(tmp_path: Path, value: object, name: str = "a.json", mapping: dict[str, str] | None = None) -> Imported:
    return import_labels(save(tmp_path / name, value), Columns("text", ""), mapping or {})


def labels(got: Imported) -> list[tuple[str, str, str]]:
    return [(x.completion, x.label, x.annotator) for x in got.labels]


@pytest.mark.parametrize(
    ("early", "late"),
    [
        ("2026-01-01T09:00:00Z", "2026-01-01T09:00:00.5Z"),  # as strings "00.5Z" < "00Z"
        ("2026-01-01T12:00:00+03:00", "2026-01-01T09:30:00Z"),  # 09:00 in UTC
        ("2026-01-01T23:30:00-02:00", "2026-01-02T02:00:00Z"),  # 01:30 on the 2nd in UTC
        ("2026-01-01T09:00:00", "2026-01-01T09:00:01Z"),
        ("", "2026-01-01T09:00:00Z"),
    ],
)
def test_the_later_instant_wins_however_it_is_written(tmp_path: Path, early: str, late: str) -> None:
    answers = [annotation(5, choice("Negative"), time=early), annotation(5, choice("Positive"), time=late)]
    for order in (answers, answers[::-1]):
        for tasks in ([task("a", *order)], [task("a", order[0], id=9), task("a", order[1], id=10)]):
            got = read(tmp_path, tasks)
            assert labels(got) == [("a", "positive", "user-5")]
            assert got.counts["superseded"] == 1
            assert got.counts[UNTIMED] == (not early)


def test_at_one_instant_the_greater_number_wins(tmp_path: Path) -> None:
    one, two = annotation(5, choice("Negative"), id=9), annotation(5, choice("Positive"), id="10")
    for order in ([one, two], [two, one]):  # as strings "9" > "10"
        assert labels(read(tmp_path, [task("a", *order)])) == [("a", "positive", "user-5")]


@pytest.mark.parametrize("ids", [(1, 1), (1.5, 1.2), ("4e3c", "5b1d"), (None, None)])
def test_texts_are_told_apart_by_what_they_say_not_by_their_id(tmp_path: Path, ids: tuple[Any, Any]) -> None:
    kim, lee = {"id": 1, "email": "kim@one.test"}, {"id": 1, "email": "lee@two.test"}
    tasks = [task("a", annotation(kim, choice("Positive")), id=ids[0]), task("b", annotation(lee, choice("Negative")))]
    tasks[1]["id"] = ids[1]
    assert labels(read(tmp_path, tasks)) == [("a", "positive", "kim@one.test"), ("b", "negative", "lee@two.test")]


@pytest.mark.parametrize(
    ("results", "mapping", "outcome"),
    [
        ([choice("Positive"), choice("Negative")], {}, "conflict"),
        ([choice("Positive", "Negative")], {}, "conflict"),
        ([choice("Positive"), choice("Positive")], {}, "positive"),
        ([choice(" Positive ")], {}, "positive"),  # as a table's cell is read
        ([choice("glad", "merry")], {"glad": "positive", "merry": "positive"}, "positive"),
        ([choice("glad", "long")], {"glad": "positive", "long": "skip"}, "positive"),
        ([choice("long")], {"long": "skip"}, "skipped by --map"),
        ([result(4, "rating")], {"4": "positive"}, "positive"),
        ([result(2.0, "number")], {"2": "negative"}, "negative"),
        ([result(2.5, "number")], {"2.5": "neutral"}, "neutral"),
        ([result([["mood", "glad"]], "taxonomy")], {"mood/glad": "positive"}, "positive"),
        ([result("left", "pairwise", key="selected")], {"left": "negative"}, "negative"),
        ([result(["fine"], "textarea", key="text")], {"fine": "positive"}, "positive"),
        ([result(None, "rating")], {}, "empty"),
        ([choice()], {}, "empty"),
        ([choice("Positive", control="tone"), choice("Negative")], {}, "negative"),
    ],
)
def test_what_an_answer_means(tmp_path: Path, results: Rows, mapping: dict[str, str], outcome: str) -> None:
    rest = annotation(9, choice("Neutral"))  # so that something is read in any case
    got = read(tmp_path, [task("a", annotation(5, *results)), task("b", rest)], mapping=mapping)
    found = {x.annotator: x.label for x in got.labels}
    if outcome in ("positive", "neutral", "negative"):
        assert found == {"user-5": outcome, "user-9": "neutral"}
    else:
        assert found == {"user-9": "neutral"}
        assert {k: n for k, n in got.counts.items() if n} == {outcome: 1}


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([result(4, "rating", "stars")], r"'stars' is a rating: got label values '4' \(1\).*--map '4=\.\.\.'"),
        ([result([["mood", "glad"]], "taxonomy", "tree")], "'tree' is a taxonomy: got label values 'mood/glad'"),
        ([result({"_": ["x", "y"]}, "ranker", "rank")], "control 'rank': got a result of type ranker"),
        ([{**choice("Joy", control="spans"), "type": "labels"}], "control 'spans': got a result of type labels"),
        ([choice("x", control="one"), choice("x", control="two")], "no control 'sentiment'; expected one of 'one', 't"),
        ([choice("Happy", control="judgement")], r"label values 'Happy' \(1\)"),
        ([choice("Positive"), choice("Negative")], r"no label at all \(1 conflict\)"),
        ([], r"no label at all \(1 empty\)"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, results: Rows, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, [task("a", annotation(5, *results))])


def test_the_only_control_is_found_and_said(tmp_path: Path) -> None:
    path = save(tmp_path / "a.json", [task("a", annotation(5, choice("Yes", control="judgement")))])
    got = import_labels(path, Columns("text", ""), {"Yes": "positive"})
    assert labels(got) == [("a", "positive", "user-5")]
    assert "'judgement', the only one" in got.notes[0]
    with pytest.raises(InputError, match="no control 'mood'; expected one of 'judgement'"):
        import_labels(path, Columns("text", "mood"), {"Yes": "positive"})


def test_one_export_names_one_person_one_way(tmp_path: Path) -> None:
    by_object = annotation({"id": 5, "email": "kim@one.test"}, choice("Positive"))
    got = read(tmp_path, [task("a", by_object), task("b", annotation(5, choice("Negative")))])
    assert {x.annotator for x in got.labels} == {"kim@one.test"}


def test_answers_that_name_nobody_are_of_several_people_unless_one_is_named(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.json", [task("a", annotation(None, choice("Positive")), annotation(None, choice("Negative")))]
    )
    got = import_labels(path, Columns("text", ""), {})
    assert [(x.label, x.annotator) for x in got.labels] == [("positive", "imported"), ("negative", "imported-2")]
    assert "name nobody" in got.notes[0]
    got = import_labels(path, Columns("text", ""), {}, annotator="ana")
    assert [(x.label, x.annotator) for x in got.labels] == [("negative", "ana")]


def test_a_table_without_names_is_one_persons_and_two_such_files_are_said(tmp_path: Path) -> None:
    got = run(tmp_path, "text,sentiment\na,positive\na,positive\nb,negative\n", "a.csv")
    assert {x.annotator for x in got.labels} == {"imported"}
    assert got.counts["superseded"] == 1
    got = run(tmp_path, "text,sentiment\na,negative\nb,negative\n", "b.csv", append=True)
    assert "'imported' answered 1 texts differently before" in got.notes[0]


def run(tmp_path: Path, value: object, name: str = "a.json", **options: Any) -> Imported:
    source = save(tmp_path / name, value)
    return label_import(str(source), str(tmp_path / "labels.jsonl"), **options).imported


def test_one_person_in_two_exports(tmp_path: Path) -> None:
    kim = {"id": 5, "email": "kim@one.test"}
    run(tmp_path, [task("a", annotation(5, choice("Positive"))), task("b", annotation(5, choice("Negative")))])
    got = run(tmp_path, [task("a", annotation(kim, choice("Positive")))], append=True)
    rows = read_labels(tmp_path / "labels.jsonl")
    assert [(x.completion, x.annotator) for x in rows] == [("a", "kim@one.test"), ("b", "kim@one.test")]
    assert "'user-5' is 'kim@one.test', says the export: 2 earlier answers" in got.notes[0]
    got = run(tmp_path, [task("c", annotation(7, choice("Positive")))], append=True)  # nothing tells who 7 is
    assert "'user-7' and 'kim@one.test'" in got.notes[0]


def test_two_people_of_one_number_are_not_made_one(tmp_path: Path) -> None:
    """Another server's user 5 answered the same text differently: both stay, and both are named."""
    run(tmp_path, [task("a", annotation(5, choice("Positive")))])
    got = run(tmp_path, [task("a", annotation({"id": 5, "email": "lee@two.test"}, choice("Negative")))], append=True)
    assert {x.annotator for x in read_labels(tmp_path / "labels.jsonl")} == {"user-5", "lee@two.test"}
    assert "'user-5' and 'lee@two.test' may be one person" in got.notes[0]


def test_ground_truth_is_kept_apart(tmp_path: Path) -> None:
    """Neither one more rater nor what supersedes the rater's own answer."""
    gold = annotation(5, choice("Negative"), time="2026-02-01T00:00:00Z", ground_truth=True)
    got = run(tmp_path, [task("a", annotation(5, choice("Positive")), gold)])
    assert [(x.label, x.annotator) for x in read_labels(tmp_path / "labels.jsonl")] == [("positive", "user-5")]
    assert got.counts[REFERENCE] == 1
    references = read_labels(tmp_path / "labels.reference.jsonl")
    assert [(x.label, x.annotator) for x in references] == [("negative", "user-5")]


def test_appending_keeps_the_later_answer_and_counts_what_it_replaces(tmp_path: Path) -> None:
    late = [task("a", annotation(5, choice("Positive"), time="2026-03-01T00:00:00Z"))]
    run(tmp_path, late)
    got = run(tmp_path, [task("a", annotation(5, choice("Negative"), time="2026-02-01T00:00:00Z"))], append=True)
    assert [x.label for x in read_labels(tmp_path / "labels.jsonl")] == ["positive"]
    assert got.counts["superseded"] == 1
    again = run(tmp_path, late, append=True)
    assert (again.counts["superseded"], again.counts["there already"]) == (0, 1)


def test_append_and_overwrite_together_are_refused() -> None:
    with pytest.raises(InputError, match="--append --overwrite: got both"):
        ImportConfig("a.csv", "b.jsonl", append=True, overwrite=True)


STUDIO = "annotation_id,annotator,created_at,id,lead_time,sentiment,text,updated_at\n"


def test_label_studios_own_table(tmp_path: Path) -> None:
    rows = [
        "11,4,2026-03-01T10:00:00Z,1,3.5,Positive,a,2026-03-01T10:00:00Z",
        "12,4,2026-03-03T10:00:00Z,1,2.5,Negative,a,2026-03-03T10:00:00Z",
        "13,4,2026-03-02T10:00:00Z,1,2.0,Neutral,a,2026-03-02T10:00:00Z",
        ",,,2,,,b,",  # a task without an answer
        '14,5,,1,,"[{""rating"": 4}]",c,',
    ]
    got = read(tmp_path, STUDIO + "\n".join(rows), "a.csv", {"4": "positive"})
    assert [(x.label, x.annotator, x.created_at, x.lead_time) for x in got.labels] == [
        ("negative", "user-4", "2026-03-03T10:00:00Z", 2.5),
        ("positive", "user-5", "", None),
    ]
    assert {k: n for k, n in got.counts.items() if n} == {"superseded": 2}
    assert "holds no skipped answers" in got.notes[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('text,sentiment\nx,positive\n"y,negative\nz,neutral\n', "line 3: got a broken quote"),
        ('text,sentiment\n"x" y,positive\n', "line 2: got a broken quote"),
        ("text,sentiment\nx,positive\ny,negative,left\n", "line 3: got 3 cells; expected 2"),
        ("text,sentiment\nx,positive\ny\n", "line 3: got 1 cells; expected 2"),
        ('text,sentiment\n"x\nx",positive\ny\n', "line 4: got 1 cells"),
        ("text,sentiment,text\nx,positive,y\n", "line 1: got the column 'text' twice"),
        ("text,sentiment\nx\0,positive\n", "line 2: got a NUL"),
        ("text,sentiment,created_at\nx,positive,yesterday\n", "line 2, .*got the time 'yesterday'"),
        ("text,sentiment,lead_time\nx,positive,long\n", "line 2, .*got 'long'; expected a number of seconds"),
        ("text,sentiment\n", "got no rows"),
        ("", "got no rows"),
    ],
)
def test_tables_that_would_lose_rows_are_refused(tmp_path: Path, text: str, message: str) -> None:
    for name, delimiter in (("a.csv", ","), ("a.tsv", "\t")):
        with pytest.raises(InputError, match=message):
            read(tmp_path, text.replace(",", delimiter), name)


def test_one_text_has_one_uid_whatever_its_line_ends(tmp_path: Path) -> None:
    in_csv = read(tmp_path, '\ufefftext,sentiment\r\n"a\r\nb",positive\r\n', "a.csv")
    in_lines = read(tmp_path, '{"text": "a\\nb", "sentiment": "positive"}\n', "a.jsonl")
    in_json = read(tmp_path, '[{"text": "a\\r\\nb", "sentiment": "positive"}]', "a.json")
    for got in (in_csv, in_lines, in_json):
        assert [x.completion for x in got.labels] == ["a\nb"]
        assert got.labels[0].uid == in_lines.labels[0].uid
    assert [n for k, n in in_json.counts.items() if "line ends" in k] == [1]


def test_comparisons_of_several_annotators_with_ties_of_any_spelling(tmp_path: Path) -> None:
    words = ["true", "True", "yes", "1", "1.0", "false", "no", "0", ""]
    text = "prompt,chosen,rejected,tie,who\n" + "".join(f"p,x,y,{word},r{i}\n" for i, word in enumerate(words))
    path = save(tmp_path / "a.csv", text)
    got = import_comparisons(path, Columns("", "", "prompt", "who")).comparisons
    assert [(x.annotator, x.tie) for x in got] == [(f"r{i}", i < 5) for i in range(9)]
    lines = save(tmp_path / "a.jsonl", '{"prompt": "p", "chosen": "x", "rejected": "y", "tie": "maybe"}\n')
    with pytest.raises(InputError, match="record 1, tie: got 'maybe'"):
        import_comparisons(lines, Columns("", "", "prompt"))


def test_comparisons_with_choices_of_their_own_and_a_pair_shown_both_ways(tmp_path: Path) -> None:
    data = {"prompt": "p", "answer1": "x", "answer2": "y"}
    turned = {"prompt": "p", "answer1": "y", "answer2": "x"}
    tasks = [
        {"data": data, "annotations": [annotation(5, choice("A", control="better"))]},
        {"data": turned, "annotations": [annotation(6, choice("A", control="better"))]},
    ]
    path = save(tmp_path / "a.json", tasks)
    got = import_comparisons(path, Columns("", "", "prompt"), {"A": "left"}).comparisons
    assert [(x.chosen, x.rejected, x.annotator) for x in got] == [("x", "y", "user-5"), ("y", "x", "user-6")]
    assert got[0].uid == got[1].uid
    with pytest.raises(InputError, match=r"label values 'A' \(2\); expected left, right, tie"):
        import_comparisons(path, Columns("", "", "prompt"))
