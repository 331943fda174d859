"""Conversations in imported files stay conversations; what has no text is refused, never spelled out as Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labeling.importing import import_comparisons, import_labels
from labeling.tables import Columns
from rlhf.foundation.conversation import prompt_from_text
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import Label, read_labels, write_records

ASKED = [{"role": "user", "content": "Name a fish."}]
PARTS = [{"role": "user", "content": [{"type": "text", "text": "Name "}, {"type": "text", "text": "a fish."}]}]
HH = "\n\nHuman: Name a fish.\n\nAssistant:"
SHAREGPT = [{"from": "human", "value": "Name a fish."}]


def turn(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"prompt": ASKED, "chosen": turn("Trout."), "rejected": turn("Oak.")}, ASKED),
        ({"prompt": PARTS, "chosen": turn("Trout."), "rejected": turn("Oak.")}, ASKED),
        ({"prompt": SHAREGPT, "chosen": turn("Trout."), "rejected": turn("Oak.")}, ASKED),
        ({"prompt": json.dumps(ASKED), "chosen": "Trout.", "rejected": "Oak."}, ASKED),
        ({"prompt": ASKED, "chosen": ASKED + turn("Trout."), "rejected": ASKED + turn("Oak.")}, ASKED),
        ({"prompt": "Name a fish.", "chosen": ASKED + turn("Trout."), "rejected": ASKED + turn("Oak.")}, ASKED),
        ({"prompt": "Name a fish.", "chosen": turn("Trout."), "rejected": turn("Oak.")}, ASKED),
        ({"chosen": ASKED + turn("Trout."), "rejected": ASKED + turn("Oak.")}, ASKED),
        ({"prompt": "Name a fish.", "chosen": "Trout.", "rejected": "Oak."}, "Name a fish."),
        ({"system": "", "question": "Name a fish.", "chosen": "Trout.", "rejected": "Oak."}, ASKED),
        ({"prompt": "Fish:", "chosen": "Fish:Trout.", "rejected": "Fish:Oak."}, "Fish:"),
        ({"chosen": HH + "Trout.", "rejected": HH + "Oak."}, HH),
    ],
)
def test_pairs(tmp_path: Path, row: dict[str, Any], prompt: object) -> None:
    (got,) = import_comparisons(lines(tmp_path / "a.jsonl", row), Columns("", "", "prompt")).comparisons
    assert (prompt_from_text(got.prompt), got.chosen, got.rejected) == (prompt, "Trout.", "Oak.")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "p", "chosen": None, "rejected": "y"}, "record 1, field 'chosen': got nothing"),
        ({"prompt": "p", "chosen": "x", "rejected": {"a": 1}}, "record 1, field 'rejected': got a dict"),
        ({"prompt": [{"role": "user", "content": None}], "chosen": "x", "rejected": "y"}, "message 1: got no content"),
        ({"prompt": [{"role": "user", "content": [{"type": "image"}]}], "chosen": "x", "rejected": "y"}, "'image'"),
        ({"prompt": [], "chosen": "x", "rejected": "y"}, "record 1, field 'prompt': got"),
        ({"prompt": ASKED, "chosen": turn("x"), "rejected": ASKED}, "a conversation that begins with user"),
        ({"prompt": "Name a tree.", "chosen": ASKED + turn("x"), "rejected": "y"}, "plain text beside a conversation"),
        ({"chosen": ASKED + turn("x"), "rejected": "y"}, "plain text beside a conversation"),
        ({"chosen": turn("x"), "rejected": turn("y")}, "conversations without a prompt that share 0 messages"),
    ],
)
def test_what_has_no_text_or_no_one_prompt_is_refused(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        import_comparisons(lines(tmp_path / "a.jsonl", row), Columns("", "", "prompt"))


def test_a_dialogue_export_is_the_same_from_every_format(tmp_path: Path) -> None:
    """The prompt is a list in JSON and its JSON in CSV: one conversation, one uid; and so it goes to the file."""
    result = {"from_name": "sentiment", "type": "choices", "value": {"choices": ["Positive"]}}
    answer = {"id": 1, "completed_by": 5, "updated_at": "2026-01-01T00:00:00Z", "result": [result]}
    asked = [{"role": "user", "content": "Name\r\na fish."}]
    full = [{"id": 1, "data": {"prompt": asked, "text": "Trout."}, "annotations": [answer]}]
    (tmp_path / "a.json").write_text(json.dumps(full), encoding="utf-8")
    cell = json.dumps(asked).replace('"', '""')
    table = "annotation_id,annotator,lead_time,updated_at,sentiment,prompt,text\n"
    (tmp_path / "a.csv").write_text(table + f'1,5,,2026-01-01T00:00:00Z,Positive,"{cell}",Trout.\n', encoding="utf-8")
    found = [import_labels(tmp_path / name, Columns("text", "", "prompt")).labels for name in ("a.json", "a.csv")]
    assert found[0] == found[1]
    assert prompt_from_text(found[0][0].prompt) == [{"role": "user", "content": "Name\na fish."}]
    write_records(tmp_path / "labels.jsonl", found[0])
    assert json.loads((tmp_path / "labels.jsonl").read_text(encoding="utf-8"))["prompt"][0]["role"] == "user"
    assert read_labels(tmp_path / "labels.jsonl") == found[0]


def test_a_judged_text_may_be_a_whole_conversation(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", {"text": ASKED + turn("Trout."), "sentiment": "positive"})
    (label,) = import_labels(path, Columns("text", "")).labels
    assert isinstance(label, Label)
    assert (prompt_from_text(label.prompt), label.completion) == (ASKED, "Trout.")
