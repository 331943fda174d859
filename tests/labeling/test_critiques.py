"""Reasons after a blind first answer: both answers are kept, in a real browser, and the change is told as a rate."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from labeling.critiques import Change, add_up_changes, change_line, read_leanings
from labeling.folder import Folder, Task
from labeling.importing import import_comparisons, import_labels
from labeling.steps.page import PageConfig
from labeling.steps.page import page as label_page
from labeling.steps.reasons import reasons_of
from labeling.steps.status import StatusConfig, status
from labeling.tables import Columns
from rlhf.cli import main
from rlhf.foundation.errors import InputError
from rlhf.foundation.proportion import wilson
from rlhf.foundation.records import Comparison, Label, Sample, read_comparisons, read_labels, write_records
from tests.labeling.test_page import saved

WORTH = {"joy": 2.0, "day": 0.5, "woe": -1.0}


def words(prompts: Sequence[str], completions: Sequence[str], **rest: Any) -> list[float]:
    """A reward that adds up what words are worth."""
    return [sum(WORTH.get(word, 0.0) for word in text.split()) for text in completions]


def test_the_reasons_are_what_the_score_loses_without_a_word() -> None:
    tasks = [Task("p", "", "joy day", "woe day"), Task("q", "", "day", "day  ")]
    first, second = reasons_of(words, tasks)
    assert first.scores == (2.5, -0.5)
    assert first.pieces == ((("joy", 2.0), (" day", 0.5)), (("woe", -1.0), (" day", 0.5)))
    assert (first.leans, second.leans) == ("first", "")
    swapped = first.shown(swapped=True)
    assert (swapped.scores, swapped.leans, swapped.pieces[0][0]) == ((-0.5, 2.5), "second", ("woe", -1.0))


def test_a_single_texts_verdict_is_by_the_median_or_a_models_log_odds() -> None:
    tasks = [Task(f"u{i}", "", text) for i, text in enumerate(["joy", "day", "woe"])]
    assert [one.leans for one in reasons_of(words, tasks)] == ["positive", "", "negative"]
    from rewards.token_model import TokenRewardModel, add_reward_tokens
    from tests.rewards.conftest import toy_model, toy_tokenizer

    model, tokenizer = toy_model(), toy_tokenizer()
    add_reward_tokens(model, tokenizer, seed=0)
    reward = TokenRewardModel(model, tokenizer, target="negative")
    odds = (-reward.log_odds([""] * 3, ["joy", "day", "woe"])).tolist()
    assert [one.leans for one in reasons_of(reward, tasks)] == ["positive" if x > 0 else "negative" for x in odds]


def make(tmp_path: Path, texts: Sequence[str], **options: Any) -> Path:
    samples = [Sample(f"u{i}", f"prompt {i // 2}", text, "m") for i, text in enumerate(texts)]
    write_records(tmp_path / "s.jsonl", samples)
    made = label_page.run(
        PageConfig(str(tmp_path / "s.jsonl"), output_dir=str(tmp_path / "f"), reasons=words, **options)
    )
    assert made.path is not None
    return made.path


@pytest.mark.real
def test_judgements_before_and_after_the_reasons(page: Page, tmp_path: Path) -> None:
    page.goto(make(tmp_path, ["joy day", "woe woe", "day", "bread <b>"]).as_uri())
    assert page.locator(".for, .why").count() == 1  # the legend's, which is hidden
    assert not page.is_visible("#legend")
    assert not page.is_visible("#keep")
    page.keyboard.press("Enter")  # keeps nothing yet
    page.keyboard.press("2")
    assert page.inner_text("#count") == "0 of 4 done"
    assert "You said Negative" in page.inner_text("#question")
    assert page.locator("#texts .for").all_inner_texts() == ["joy", "day"]
    assert page.inner_text(".text") == "joy day"
    assert "score +2.50 · for: joy +2.00, day +0.50 · against: nothing" in page.inner_text(".why")
    page.reload()  # the first answer stands
    assert "You said Negative" in page.inner_text("#question")
    page.keyboard.press("1")  # changed, the model's way
    page.keyboard.press("2")
    page.keyboard.press("Enter")  # kept
    page.keyboard.press("1")
    page.keyboard.press("3")  # changed; of the third the model says nothing certain
    page.keyboard.press("u")
    assert "You said Positive" in page.inner_text("#question")  # what was said before the reasons stays
    page.keyboard.press("2")
    page.keyboard.press("s")  # skipped at sight
    assert "All done" in page.inner_text("#question")
    page.fill("#name", "ana")
    file = saved(page, tmp_path / "f")
    label_page.run(PageConfig(output_dir=str(tmp_path / "f"), answers=[str(file)]))
    labels = read_labels(tmp_path / "f" / "labels.jsonl")
    assert [(x.uid, x.first, x.label) for x in labels] == [
        ("u0", "negative", "positive"),
        ("u1", "negative", "negative"),
        ("u2", "positive", "negative"),
    ]
    assert all(x.lead_time is not None and x.lead_time < 60 for x in labels)
    # scores 2.5, -2, 0.5, 0: the median is 0.25, so that the model calls the third positive
    assert read_leanings(tmp_path / "f") == {"u0": "positive", "u1": "negative", "u2": "positive", "u3": "negative"}
    everyone, ana = status.run(StatusConfig(output_dir=str(tmp_path / "f"))).changes
    assert (everyone.changed, everyone.towards) == (ana.changed, ana.towards) == (wilson(2, 3), wilson(1, 2))


@pytest.mark.real
def test_a_first_answer_of_another_tab_is_followed_by_its_reasons(page: Page, tmp_path: Path) -> None:
    path = make(tmp_path, ["joy", "woe"])
    page.goto(path.as_uri())
    other = page.context.new_page()
    other.goto(path.as_uri())
    page.keyboard.press("2")
    other.bring_to_front()
    other.wait_for_timeout(1000)  # a browser tells its other tabs a moment later
    other.keyboard.press("1")  # blind, on a screen without reasons: not the last answer
    assert "You said Negative" in other.inner_text("#question")
    assert other.inner_text("#count") == "0 of 2 done"


@pytest.mark.real
def test_comparisons_before_and_after_the_reasons(page: Page, tmp_path: Path) -> None:
    page.goto(make(tmp_path, ["joy 0", "woe 0", "joy 1", "woe 1", "joy 2", "woe 2"], kind="comparison").as_uri())
    for first, final in (("joy", "joy"), ("joy", "woe"), ("woe", "tie")):
        left = page.locator(".text").first.inner_text()
        keys = {left[:3]: "1", "tie": "3"}
        page.keyboard.press(keys.get(first, "2"))
        assert page.locator(".text").first.inner_text() == left
        page.keyboard.press(keys.get(final, "2"))
    page.fill("#name", "ana")
    label_page.run(PageConfig(output_dir=str(tmp_path / "f"), answers=[str(saved(page, tmp_path / "f"))]))
    rows = read_comparisons(tmp_path / "f" / "comparisons.jsonl")
    by_prompt = {row.prompt: row for row in rows}
    assert [(by_prompt[f"prompt {i}"].first, by_prompt[f"prompt {i}"].tie) for i in range(3)] == [
        ("chosen", False),
        ("rejected", False),  # joy at first, then woe
        ("chosen" if by_prompt["prompt 2"].chosen == "woe 2" else "rejected", True),
    ]
    found = status.run(StatusConfig(output_dir=str(tmp_path / "f")))
    # The model is for joy: the second went against it, the third half-way towards it.
    assert (found.changes[0].changed, found.changes[0].towards) == (wilson(2, 3), wilson(1, 2))
    # Wilson for 2 of 3: centre (0.667 + 0.640) / 2.280 = 0.573, half width 0.365.
    line = (
        "changed 2 of 3 answers after the reward model's reasons (67%, 95 % interval 21% to 94%); 1 of 2 changes went"
    )
    assert line in "\n".join(found.lines)


def test_both_answers_stand_in_the_files(tmp_path: Path) -> None:
    label = Label("u", "", "text", "positive", "ana", first="neutral")
    pair = Comparison("p", "", "a", "b", "ana", first="rejected")
    write_records(tmp_path / "l", [label, Label("v", "", "other", "positive", "ana")])
    write_records(tmp_path / "c", [pair])
    assert read_labels(tmp_path / "l")[0] == label
    assert read_comparisons(tmp_path / "c") == [pair]
    rows = [json.loads(line) for line in (tmp_path / "l").read_text(encoding="utf-8").splitlines()]
    assert ("first" in rows[0], "first" in rows[1]) == (True, False)
    for wrong in ("chosen", 3):
        with pytest.raises(InputError, match="label field 'first'"):
            Label("u", "", "text", "positive", "ana", first=wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="comparison field 'first'"):
        Comparison("p", "", "a", "b", "ana", first="left")  # type: ignore[arg-type]


def test_a_task_knows_its_first_answer_on_either_side() -> None:
    """Swapped, `two` is on the left: first left (two), then right (one)."""
    by: dict[str, Any] = {"annotator": "ana", "origin": "manual"}
    for swapped in (False, True):
        task = Task("p", "", "one", "two", swapped)
        made = task.comparison("second", "first", **by)
        assert (made.chosen, made.first) == (("one" if swapped else "two"), "rejected")
        assert task.comparison("second", "second", **by).first == "chosen"
        assert task.comparison("first", "tie", **by).first == "tie"
        tie = task.comparison("tie", "first", **by)
        assert (tie.chosen, tie.first) == ("one", "rejected" if swapped else "chosen")


def test_reasons_of_no_reward_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    write_records(tmp_path / "s.jsonl", [Sample("u", "", "text", "m")])
    config = PageConfig(str(tmp_path / "s.jsonl"), output_dir=str(tmp_path / "f"), reasons=str(tmp_path / "none"))
    with pytest.raises(InputError):
        label_page.run(config)
    assert not (tmp_path / "f" / "label.html").exists()
    assert Folder(tmp_path / "f").read_tasks() == {}


def test_changes_towards_the_model_are_counted_by_where_they_end() -> None:
    """ana: 0 to 1, 1/2 to 1 (both towards 1), 1 to 1/2 (away); ben: kept; 0 to 1 where the model says nothing."""
    given = {
        ("a", "ana"): Change("ana", 0.0, 1.0, 1.0),
        ("b", "ana"): Change("ana", 0.5, 1.0, 1.0),
        ("c", "ana"): Change("ana", 1.0, 0.5, 1.0),
        ("a", "ben"): Change("ben", 1.0, 1.0, 1.0),
        ("d", "ben"): Change("ben", 0.0, 1.0),
    }
    everyone, ana, ben = add_up_changes(given)
    assert (everyone.rater, everyone.changed, everyone.towards) == ("", wilson(4, 5), wilson(2, 3))
    assert (ana.changed, ana.towards) == (wilson(3, 3), wilson(2, 3))
    assert (ben.changed, ben.towards.n) == (wilson(1, 2), 0)
    assert "model's way" not in change_line(ben)
    assert add_up_changes({}) == []


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json"])
def test_a_table_s_first_column_is_the_blind_answer(tmp_path: Path, name: str) -> None:
    rows = [
        {"text": "x", "mood": "positive", "first": "sad", "who": "ana"},
        {"text": "y", "mood": "sad", "first": "sad", "who": "ana"},
        {"text": "z", "mood": "positive", "first": "", "who": "ana"},
    ]
    path = table(tmp_path / name, rows)
    got = import_labels(path, Columns("text", "mood", annotator="who"), {"sad": "negative"}).labels
    assert {x.completion: x.first for x in got} == {"x": "negative", "y": "negative", "z": None}
    rows[0]["first"] = "Bob"
    with pytest.raises(InputError, match="column 'first': got values 'Bob'; expected what the rater said before"):
        import_labels(table(tmp_path / name, rows), Columns("text", "mood"), {"sad": "negative"})


def test_a_table_of_comparisons_has_blind_answers_too(tmp_path: Path) -> None:
    sides = [("left", "right"), ("right", "right"), ("tie", "left"), ("left", "tie"), ("left", "")]
    rows = [
        {"prompt": "p", "answer1": f"x{i}", "answer2": "y", "comparison": now, "first": then}
        for i, (now, then) in enumerate(sides)
    ]
    got = import_comparisons(table(tmp_path / "a.csv", rows), Columns("", "", "prompt")).comparisons
    assert [x.first for x in sorted(got, key=lambda x: max(x.chosen, x.rejected, key=len))] == [
        "rejected", "chosen", "chosen", "tie", None,
    ]  # fmt: skip
    columns = [{"prompt": "p", "chosen": "a", "rejected": f"b{i}", "first": said} for i, said in enumerate(("tie", ""))]
    got = import_comparisons(table(tmp_path / "b.csv", columns), Columns("", "", "prompt")).comparisons
    assert sorted(str(x.first) for x in got) == ["None", "tie"]
    columns[0]["first"] = "left"
    with pytest.raises(InputError, match="line 2, column 'first': got 'left'; expected what the rater chose"):
        import_comparisons(table(tmp_path / "b.csv", columns), Columns("", "", "prompt"))


def test_what_label_import_wrote_comes_back_with_its_first_answers(tmp_path: Path) -> None:
    blind = Label("0" * 32, "p", "x", "positive", "ana", first="negative")
    write_records(tmp_path / "labels.jsonl", [blind])
    columns = ["--text", "completion", "--label", "label", "--prompt", "prompt", "--annotator_column", "annotator"]
    files = ["--input", str(tmp_path / "labels.jsonl"), "--output", str(tmp_path / "again.jsonl")]
    assert main(["label", "import", *columns, *files, "--quiet"]) == 0
    assert [x.first for x in read_labels(tmp_path / "again.jsonl")] == ["negative"]


def table(path: Path, rows: list[dict[str, str]]) -> Path:
    if path.suffix == ".csv":
        lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    else:
        lines = [json.dumps(row) for row in rows] if path.suffix == ".jsonl" else [json.dumps(rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
