"""`rlhf label status`: what it says of raters is what training does, in the words that were asked."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from labeling.annotations import Annotation
from labeling.folder import Folder, Plan, Project, Task
from labeling.screens import COMPARISON, own_question
from labeling.steps.status import StatusConfig, status
from rewards.preference_pooling import pool_preferences
from rewards.preferences import read_preferences
from rewards.targets import pool_labels
from rlhf.foundation.files import write_json
from rlhf.foundation.records import LABELS, Label, LabelName, read_labels, write_records

HELPFUL = own_question(
    "Is this reply helpful?", ["Yes", "No", "Unsure"], {"Yes": "positive", "No": "negative", "Unsure": "neutral"}
)


def judged(n: int, raters: dict[str, float], **rest: object) -> list[Label]:
    """Text i is LABELS[i % 3]; `coin` goes round the labels by threes, the others are right; seconds by rater."""
    rows = []
    for i in range(n):
        for name, seconds in raters.items():
            said: LabelName = LABELS[i // 3 % 3] if name == "coin" else LABELS[i % 3]
            rows.append(Label(f"u{i}", f"question {i}", f"reply {i}", said, name, lead_time=seconds))
    return rows


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A folder of 36 tasks, asked helpful yes or no in ana's and in coin's project."""
    made = Folder(tmp_path / "labels")
    projects = tuple(
        Project(name, "http://127.0.0.1:8080", id, "Helpful") for id, name in enumerate(("ana", "coin"), 3)
    )
    made.path.mkdir()
    made.write_plan(Plan(HELPFUL, True, "Helpful", projects))
    made.write_tasks(Task(f"u{i}", f"question {i}", f"reply {i}") for i in range(36))
    return made


def test_one_pooling_for_status_and_reward(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    write_records(path, judged(36, {"ana": 2.0, "ben": 2.0, "coin": 2.0}))
    found, trained = status.run(StatusConfig(labels=str(path))), pool_labels(read_labels(path))
    assert found.pooled == trained.pooled
    assert list(found.pooled.left_out) == ["coin"]
    assert found.ceiling == trained.ceiling
    assert found.ceiling.value == 1.0  # of those who count; with coin it would be far lower
    text = "\n".join(found.lines)
    assert "verdict: NO BETTER THAN CHANCE, kappa 0.00 ± 0.12 on 36 tasks that others labelled too: left out" in text
    assert text.count("verdict: counts, right on about") == 2
    shares = status.run(StatusConfig(labels=str(path), pooling="share"))
    assert shares.pooled == pool_labels(read_labels(path), "share").pooled
    assert shares.pooled.left_out == {}


def test_the_words_on_the_screen_haste_and_addresses(folder: Folder) -> None:
    rows = judged(36, {"ana": 10.0, "ben": 10.0, "coin": 1.0})
    write_records(folder.path / "labels.jsonl", rows)
    known = {
        f"{name} {id}": {
            str(100 * id + i): {
                "updated_at": "",
                "counts": {},
                "annotations": [dataclasses.asdict(Annotation(f"u{i}", name, "labelled", "Yes", "", i, 1.0, "manual"))],
            }
            for i in range(36)
        }
        for id, name in ((3, "ana"), (4, "coin"))
    }
    write_json(folder.path / "pulled.json", known)
    lines = status.run(StatusConfig(output_dir=str(folder.path), second_look=1)).lines
    assert lines[0] == "labelled: 36 of 36 tasks, 108 labels (36 Yes, 36 Unsure, 36 No)"
    text = "\n".join(lines)
    assert "  ana: 36 labels (12 Yes, 12 Unsure, 12 No), 10.0 s a label (median, n=36)" in text
    assert "said Yes: others" in text
    assert "positive" not in text
    # The median of all 108 is 10 s, a fifth of it 2 s: every label of coin's took one.
    assert "HASTY: 36 of 36 labels in less than a fifth of everyone's median time (10.0 s)" in text
    assert text.count("HASTY") == 1
    listed = lines.index("most deserve a second look (doubt in nats after pooling; labels; text):")
    first = lines[listed + 1]
    number = int(first.split("'question ")[1].split("'")[0])
    assert first.endswith(f"'question {number}' -> 'reply {number}'  [u{number}]")
    assert lines[listed + 2 :] == [
        f"        ana: http://127.0.0.1:8080/projects/3/data?task={300 + number}",
        f"        coin: http://127.0.0.1:8080/projects/4/data?task={400 + number}",
    ]


def test_a_side_is_told_by_what_was_shown(folder: Folder) -> None:
    """Half of the pairs are swapped: who always presses left chooses the first text of one half alone."""
    tasks = [Task(f"u{i}", "", f"one {i}", f"two {i}", swapped=i % 2 == 0) for i in range(40)]
    folder.write_plan(Plan(COMPARISON, False, "Pairs"))
    folder.write_tasks(tasks)
    rows = []
    for i, task in enumerate(tasks):
        rows.append(task.comparison("first", annotator="lefty", origin="manual"))
        better = task.swapped == (i % 4 < 2)  # the left text is the better one in every other pair
        for name in ("reader", "other"):
            rows.append(task.comparison("first" if better else "second", annotator=name, origin="manual"))
        rows.append(task.comparison("tie", annotator="tied", origin="manual"))
    path = folder.path / "comparisons.jsonl"
    write_records(path, rows)
    found = status.run(StatusConfig(output_dir=str(folder.path)))
    text = "\n".join(found.lines)
    # Wilson for 40 of 40: 40/(40 + 1.96²) = 91 %; for 20 of 40: 35 % to 65 %.
    assert "PREFERS A SIDE: chose the text on the left in 100% of 40 decided pairs (95 % interval 91% to 100%" in text
    assert "      chose the text on the left in 50% of 40 decided pairs (95 % interval 35% to 65%" in text
    assert text.count("on the left") == 3  # who only ties has no side
    assert found.pooled == pool_preferences(read_preferences(path), place=str(path)).pooled
    assert "lefty" in found.pooled.left_out


def test_other_peoples_strings_are_no_orders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "labels.jsonl"
    hostile = "\u202eevil " + "x" * 150
    rows = [
        Label("u\u2066", "\x1b[2J", "text\x07\x1b]0;title\x07", said, who)
        for said, who in (("positive", hostile), ("negative", "ana"))
    ]  # type: ignore[arg-type]
    write_records(path, rows)
    from rlhf import cli

    assert cli.main(["label", "status", "--labels", str(path)]) == 0
    out = capsys.readouterr().out
    assert all(line.isprintable() for line in out.splitlines())
    assert r"\u202eevil xxx" in out
    assert max(map(len, out.splitlines())) < 260


def test_names_that_look_alike_are_told_and_all_at_chance_is_said(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    rows = judged(36, {"Ana": 1.0, "coin": 1.0})
    rows += [dataclasses.replace(rows[0], annotator="Ana "), dataclasses.replace(rows[0], annotator="ana")]
    write_records(path, rows)
    text = "\n".join(status.run(StatusConfig(labels=str(path))).lines)
    assert "Ana is written in 2 ways ('Ana', 'Ana '): counted as one rater" in text
    assert "'Ana', 'ana' differ by case only: counted as 2 raters" in text
    assert "rows that repeat a rater's row on the same task: 1; the later one counts" in text
    assert "`rlhf reward` refuses" not in text  # ana's single label is left
    write_records(path, judged(36, {"Ana": 1.0, "coin": 1.0}))
    assert "`rlhf reward` refuses" in "\n".join(status.run(StatusConfig(labels=str(path))).lines)
