"""CSV, JSON lines and Label Studio exports become labels; what is left out is counted or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labeling.annotations import UNTIMED
from labeling.importing import import_comparisons, import_labels, parse_map
from labeling.tables import Columns
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import content_uid

CSV = 'text,mood,who\n"O joy,\nindeed",happy,ana\nAlas,sad,ana\nHm,,ben\n"  ",sad,ben\nAlas,happy,ana\nBread,meh,ben\n'
MOODS = {"happy": "positive", "sad": "negative", "meh": "skip"}


def result(choice: str, control: str = "sentiment", **more: Any) -> dict[str, Any]:
    return {"from_name": control, "to_name": "text", "type": "choices", "value": {"choices": [choice]}, **more}


def annotation(number: int, by: int, results: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    row = {"id": number, "completed_by": by, "was_cancelled": False, "lead_time": 2.5, "result": results}
    return {**row, "updated_at": f"2026-01-01T00:00:{number:02d}.000000Z", **more}


EXPORT = [
    {
        "id": 11,
        "data": {"text": "joy", "uid": "u1"},
        "drafts": [{"id": 1}],
        "annotations": [
            annotation(1, 1, [result("Positive")]),
            annotation(2, 1, [result("Neutral")]),  # the same person again: this one wins
            annotation(3, 2, [result("Positive", origin="prediction")]),
        ],
    },
    {
        "id": 12,
        "data": {"text": "grief", "uid": "u2"},
        "annotations": [
            annotation(4, 1, [result("Negative")], was_cancelled=True),
            annotation(5, 2, []),
            annotation(6, 3, [result("Negative", control="mood")]),
            annotation(7, 4, [result("Negative")], lead_time=-3),
        ],
    },
]


def save(path: Path, value: object) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def test_csv_with_a_map(tmp_path: Path) -> None:
    path = save(tmp_path / "a.csv", "\ufeff" + CSV)
    got = import_labels(path, Columns("text", "mood", annotator="who"), MOODS, annotator="x")
    assert [(x.completion, x.label, x.annotator) for x in got.labels] == [
        ("O joy,\nindeed", "positive", "ana"),
        ("Alas", "positive", "ana"),
    ]
    assert {k: n for k, n in got.counts.items() if n} == {
        "no label": 1,
        "empty text": 1,
        "skipped by --map": 1,
        "superseded": 1,
        UNTIMED: 1,
    }
    assert got.labels[1].uid == content_uid("", "Alas")


def test_unknown_values_are_named_not_dropped(tmp_path: Path) -> None:
    path = save(tmp_path / "a.csv", CSV)
    with pytest.raises(InputError, match=r"label values 'sad' \(2\), 'meh' \(1\)"):
        import_labels(path, Columns("text", "mood"), {"happy": "positive"}, annotator="x")


def test_json_lines_with_our_own_label_names_in_any_case(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", '{"text": "a", "label": "Positive"}\n{"text": "b", "label": "NEUTRAL"}\n')
    got = import_labels(path, Columns("text", "label"), {}, annotator="x")
    assert [x.label for x in got.labels] == ["positive", "neutral"]


def test_label_studio_export(tmp_path: Path) -> None:
    path = save(tmp_path / "export.json", EXPORT)
    got = import_labels(path, Columns("text", "sentiment"), {}, annotator="x")
    assert [(x.completion, x.label, x.annotator, x.origin, x.lead_time) for x in got.labels] == [
        ("joy", "neutral", "user-1", "manual", 2.5),
        ("joy", "positive", "user-2", "prediction", 2.5),
        ("grief", "negative", "user-4", "manual", None),
    ]
    assert {k: n for k, n in got.counts.items() if n} == {
        "draft": 1,
        "superseded": 1,
        "skipped": 1,
        "empty": 1,
        "unknown control": 1,
    }


def test_comparisons_of_label_studios_own_pairwise(tmp_path: Path) -> None:
    pairwise = {"from_name": "comparison", "to_name": "comparison", "type": "pairwise", "value": {"selected": "right"}}
    items = [
        {
            "id": 1,
            "data": {"prompt": "p", "answer1": "one", "answer2": "two"},
            "annotations": [annotation(1, 1, [pairwise]), annotation(2, 2, [result("Tie", "comparison")])],
        }
    ]
    path = save(tmp_path / "export.json", items)
    got = import_comparisons(path, Columns("", "comparison", "prompt"), annotator="x").comparisons
    assert [(x.chosen, x.rejected, x.tie, x.annotator) for x in got] == [
        ("two", "one", False, "user-1"),
        ("one", "two", True, "user-2"),
    ]
    assert got[0].uid == got[1].uid


def test_preference_columns_of_trl(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", '{"prompt": "p", "chosen": "good", "rejected": "bad"}\n')
    got = import_comparisons(path, Columns("", "", "prompt"), annotator="x").comparisons
    assert [(x.prompt, x.chosen, x.rejected, x.tie) for x in got] == [("p", "good", "bad", False)]


def test_parse_map() -> None:
    assert parse_map(["happy=positive,sad=negative", "a=b=skip"]) == {
        "happy": "positive",
        "sad": "negative",
        "a=b": "skip",
    }
    assert parse_map(['"Yes, fully"=positive,"say ""no"""=negative']) == {
        "Yes, fully": "positive",
        'say "no"': "negative",
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["happy=good"], "--map: got 'happy=good'"),
        (["x=positive,x=negative"], "after x=positive"),
        (["Yes, fully=positive"], "--map: got 'Yes'"),
        (["=positive"], "--map: got '=positive'"),
    ],
)
def test_maps_that_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_map(words)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "text,label\n", "no rows"),
        ("a.txt", "text", r"ending in '\.txt'"),
        ("a.csv", "body,label\nx,positive\n", "no column text"),
        ("a.jsonl", '{"text": "a", "label": "pos', "torn last line"),
    ],
)
def test_bad_files_in_one_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        import_labels(save(tmp_path / name, text), Columns("text", "label"), {}, annotator="x")


def test_real_hand_labels(shared_data: Path) -> None:
    path = shared_data / "shakespeare_sentiment.jsonl"
    mapping = {"happy": "positive", "sad": "negative"}
    got = import_labels(path, Columns("sample", "sentiment"), mapping, annotator="x")
    assert len(got.labels) + got.counts["superseded"] == 268
    assert {x.label for x in got.labels} == {"positive", "negative"}
