"""A second round in a real Label Studio: each rater's own first answer and the reasons beside it; both are kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from labeling.critiques import Reasons
from labeling.folder import Folder, Plan, Project, Task
from labeling.screens import COMPARISON
from labeling.second_round import read_first_round, reason_text
from labeling.server_raters import result_of
from labeling.steps.pull import PullConfig, pull
from labeling.steps.push import PushConfig, push
from labeling.steps.status import StatusConfig, status
from rlhf.foundation.errors import InputError
from rlhf.foundation.proportion import wilson
from rlhf.foundation.records import Sample, read_labels, write_records
from tests.labeling.conftest import Live
from tests.labeling.test_critiques import words

SAID = ("first", "first", "tie")
BOTH = Reasons("p", "r", (2.5, -0.5), "first", ((("joy", 2.0), (" day", 0.5)), (("woe", -1.0), (" day", 0.5))))


def test_what_a_rater_reads() -> None:
    said = reason_text(BOTH.shown(swapped=True), "Right").splitlines()
    assert said[0].startswith("You said Right. The reward model's score")
    assert said[1:] == [
        "Left: score -0.50; for: day +0.50; against: woe -1.00",
        "Right: score +2.50; for: joy +2.00, day +0.50; against: nothing",
    ]


def test_what_gives_no_second_round(folder: Folder) -> None:
    folder.write_plan(Plan(COMPARISON, False, "Pairs", (Project("", "http://x", 1, "Pairs"),)))
    folder.write_tasks([])
    with pytest.raises(InputError, match="no project for each rater"):
        read_first_round(folder)
    folder.write_plan(Plan(COMPARISON, False, "Pairs", (Project("ana", "http://x", 1, "Pairs (ana)"),)))
    with pytest.raises(InputError, match="got no answer"):
        read_first_round(folder)
    for options in ({"samples": "s", "first_answers": "f", "reasons": "length"}, {}):
        with pytest.raises(InputError, match="one of them"):
            PushConfig(output_dir="o", **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="--first_answers: got it without --reasons"):
        PushConfig(output_dir="o", first_answers="f")


def test_a_first_answer_is_told_by_the_side_it_stood_on(folder: Folder) -> None:
    """Of a swapped pair `one` stands on the right."""
    folder.write_plan(Plan(COMPARISON, False, "Pairs", (Project("ana", "http://x", 1, "Pairs (ana)"),)))
    tasks = [Task(f"p{i}", "", "one", "two", swapped=i == 1, priority=0.5) for i in range(4)]
    folder.write_tasks(tasks)
    made = [task.comparison(said, annotator="ana", origin="manual") for task, said in zip(tasks, SAID, strict=False)]
    stranger = tasks[3].comparison("first", annotator="zoe", origin="manual")
    write_records(folder.path / "comparisons.jsonl", [*made, stranger])
    found = read_first_round(folder)
    assert found.choices == {"ana": {"p0": "Left", "p1": "Left", "p2": "Tie"}}
    assert made[1].chosen == "two"
    assert list(found.tasks) == ["p0", "p1", "p2"]
    assert all(task.priority is None for task in found.tasks.values())


def answer(live: Live, folder: Folder, rater: str, said: Sequence[str]) -> list[dict[str, Any]]:
    """As this rater the first tasks of the own project, by id; the tasks' fields as the server has them."""
    (project,) = (one for one in folder.need_plan().projects if one.rater == rater)
    studio, screen = live.connect(rater), folder.need_plan().screen
    items = sorted(studio.export(project.id, unannotated=True), key=lambda item: int(item["id"]))
    for item, choice in zip(items, said, strict=False):
        studio.annotate(item["id"], result_of(screen, choice), lead_time=1.0)
    return [item["data"] for item in items]


@pytest.mark.real
def test_both_rounds(label_studio: Live, tmp_path: Path, title: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABEL_STUDIO_URL", raising=False)
    monkeypatch.delenv("LABEL_STUDIO_API_KEY", raising=False)
    texts = ("joy day", "woe woe", "day", "bread")
    write_records(tmp_path / "s.jsonl", [Sample(f"u{i}", "", text, "m") for i, text in enumerate(texts)])
    first, second = Folder(tmp_path / "first"), Folder(tmp_path / "second")
    config = PushConfig(
        str(tmp_path / "s.jsonl"),
        output_dir=str(first.path),
        title=title,
        raters=["ana,ben"],
        server_dir=str(label_studio.directory),
        quiet=True,
    )
    push.run(config)
    answer(label_studio, first, "ana", ["Negative", "Negative", "Positive"])
    answer(label_studio, first, "ben", ["Positive", "Neutral"])
    pull.run(PullConfig(str(first.path), quiet=True))
    again = PushConfig(output_dir=str(second.path), first_answers=str(first.path), reasons=words, quiet=True)
    pushed = push.run(again).pushed
    assert {rater: one.created for rater, one in pushed.items()} == {"ana": 3, "ben": 2}
    # ana comes round to the model of the first and keeps the others; ben changes his second, against the model
    shown = answer(label_studio, second, "ana", ["Positive", "Negative", "Positive"])
    assert shown[0]["reasons"].splitlines()[1] == "score +2.50; for: joy +2.00, day +0.50; against: nothing"
    assert "You said Negative." in shown[0]["reasons"]
    assert "You said Neutral." in answer(label_studio, second, "ben", ["Positive", "Positive"])[1]["reasons"]
    assert {rater: one.created for rater, one in push.run(again).pushed.items()} == {"ana": 0, "ben": 0}
    pull.run(PullConfig(str(second.path), quiet=True))
    labels = read_labels(second.path / "labels.jsonl")
    assert [(x.uid, x.annotator, x.first, x.label) for x in labels] == [
        ("u0", "ana", "negative", "positive"),
        ("u0", "ben", "positive", "positive"),
        ("u1", "ana", "negative", "negative"),
        ("u1", "ben", "neutral", "positive"),
        ("u2", "ana", "positive", "positive"),
    ]
    everyone, ana, ben = status.run(StatusConfig(output_dir=str(second.path))).changes
    assert (everyone.changed, everyone.towards) == (wilson(2, 5), wilson(1, 2))
    assert (ana.changed, ana.towards, ben.changed) == (wilson(1, 3), wilson(1, 1), wilson(1, 2))
    assert all(label.first is None for label in read_labels(first.path / "labels.jsonl"))
