"""The same project as JSON, JSON-MIN, CSV and TSV, written by Label Studio's own converter, gives the same labels."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labeling.importing import Imported, import_labels
from labeling.screens import SENTIMENT, label_config
from labeling.tables import Columns

FORMATS = ("json", "json_min", "csv", "tsv")
# Any text but NUL, which a table cannot hold, and lone surrogates, which a file cannot.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip)


@pytest.fixture(scope="module")
def converter() -> Any:
    from label_studio_sdk.converter import Converter

    return Converter(label_config(SENTIMENT, shows_prompt=True), project_dir=None)


def write(converter: Any, items: list[dict[str, Any]], form: str, folder: Path) -> Path:
    """The export as Label Studio writes it in that format."""
    source = folder / "export.json"
    source.write_text(json.dumps(items), encoding="utf-8")
    if form == "json":
        return source
    if form == "json_min":
        converter.convert_to_json_min(str(source), str(folder / form), is_dir=False)
        return folder / form / "result.json"
    converter.convert_to_csv(str(source), str(folder / form), is_dir=False, sep="\t" if form == "tsv" else ",")
    return (folder / form / "result.csv").rename(folder / f"result.{form}")


def annotation(number: int, by: Any, choices: list[str], time: str) -> dict[str, Any]:
    result = {"from_name": "sentiment", "to_name": "text", "type": "choices", "value": {"choices": choices}}
    return {
        "id": number,
        "completed_by": by,
        "was_cancelled": False,
        "created_at": time,  # by which the converter orders the rows of a task, the latest first
        "updated_at": time,
        "lead_time": 2.5,
        "result": [result] if choices else [],
    }


def read_all(converter: Any, items: list[dict[str, Any]], columns: Columns, **more: Any) -> dict[str, Imported]:
    with tempfile.TemporaryDirectory() as folder:
        return {
            form: import_labels(write(converter, items, form, Path(folder)), columns, {}, **more) for form in FORMATS
        }


@settings(max_examples=100, deadline=None)
@given(prompt=st.one_of(st.just(""), TEXTS), text=TEXTS, choice=st.sampled_from(["Positive", "Neutral", "Negative"]))
def test_any_label_comes_back_from_every_format(converter: Any, prompt: str, text: str, choice: str) -> None:
    made = annotation(7, 3, [choice], "2026-01-02T03:04:05.678901Z")
    items = [{"id": 1, "data": {"prompt": prompt, "text": text}, "annotations": [made]}]
    unix = [part.replace("\r\n", "\n").replace("\r", "\n") for part in (prompt, text)]
    for form, got in read_all(converter, items, Columns("text", "", "prompt")).items():
        (label,) = got.labels
        assert [label.prompt, label.completion] == unix, form
        assert (label.label, label.annotator, label.lead_time) == (choice.lower(), "user-3", 2.5), form
        assert label.created_at == "2026-01-02T03:04:05.678901Z", form
    assert got.labels == read_all(converter, items, Columns("text", "sentiment", "prompt"))["json"].labels


def test_what_is_harder_than_one_answer(converter: Any) -> None:
    """A changed mind, an emptied answer, two choices at once, a task nobody did, people with and without a name."""
    times = [f"2026-01-0{day}T10:00:00.000000Z" for day in range(1, 6)]
    kim = {"id": 5, "email": "kim@one.test", "first_name": "", "last_name": ""}
    items = [
        {
            "id": 9,
            "data": {"text": "a"},
            "annotations": [
                annotation(2, 1, ["Negative"], times[3]),
                annotation(10, 1, ["Positive"], times[1]),
                annotation(3, kim, ["Neutral"], times[0]),
            ],
        },
        {
            "id": 10,
            "data": {"text": "b"},
            "annotations": [
                annotation(4, 1, ["Positive"], times[0]),
                annotation(5, 1, [], times[1]),
                annotation(6, kim, ["Positive", "Negative"], times[2]),
                annotation(7, None, ["Positive"], times[2]),
                annotation(8, None, ["Negative"], times[4]),
            ],
        },
        {"id": 11, "data": {"text": "c"}, "annotations": []},
    ]
    for form, got in read_all(converter, items, Columns("text", "")).items():
        assert sorted((x.completion, x.annotator, x.label) for x in got.labels) == [
            ("a", "kim@one.test", "neutral"),
            ("a", "user-1", "negative"),  # 4 January is later than 2 January, whatever the ids and the order
            ("b", "imported", "positive"),  # the two who have no name are two, numbered by time
            ("b", "imported-2", "negative"),
        ], form
        assert {k: n for k, n in got.counts.items() if n} == {"superseded": 2, "empty": 1, "conflict": 1}, form
