"""The offline page in a real browser, from file://, and the way back from what it saves."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page

from labeling.answers import collect
from labeling.campaign import plan_tasks
from labeling.folder import Folder, Task
from labeling.page_file import page_plan
from labeling.screens import RATING
from labeling.steps.import_labels import ImportConfig, import_labels
from labeling.steps.page import PageConfig
from labeling.steps.page import page as label_page
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import Sample, read_comparisons, read_labels, write_records

HOSTILE = "</script><script>window.broken = 1</script><img src=x onerror='window.broken = 1'>{{ data }}"


def make(folder: Path, samples: list[Sample], **options: object) -> Path:
    path = folder.parent / "samples.jsonl"
    write_records(path, samples)
    made = label_page.run(PageConfig(output_dir=str(folder), samples=str(path), **options))  # type: ignore[arg-type]
    assert made.path is not None
    return made.path


def saved(page: Page, folder: Path) -> Path:
    with page.expect_download() as download:
        page.click("#send")
    path = folder.parent / download.value.suggested_filename
    download.value.save_as(path)
    return path


@pytest.mark.real
def test_label_undo_skip_reload_and_send_back(page: Page, tmp_path: Path) -> None:
    texts = ["joy", "grief", HOSTILE, "\u05e9\u05dc\u05d5\u05dd 😀", "bread"]
    folder = tmp_path / "folder"
    path = make(folder, [Sample(f"u{i}", "", text, "secret-model") for i, text in enumerate(texts)])
    assert "secret-model" not in path.read_text(encoding="utf-8")
    page.goto(path.as_uri())
    assert page.inner_text(".text") == "joy"
    page.keyboard.press("1")
    page.keyboard.press("1")  # a slip: grief is not positive
    page.keyboard.press("u")
    assert page.inner_text(".text") == "grief"
    page.keyboard.press("2")
    assert page.inner_text(".text") == HOSTILE
    page.wait_for_timeout(500)  # Chromium hands what was stored to its own process a moment later
    page.reload()  # autosave: it goes on where it stopped
    assert page.inner_text("#count") == "2 of 5 done"
    page.keyboard.press("3")
    page.keyboard.press("s")
    page.click("#choices button >> nth=2")
    assert "All done" in page.inner_text("#question")
    assert page.evaluate("window.broken") is None
    page.click("#send")
    assert "name" in page.inner_text("#warning")
    page.fill("#name", "Ana 1")  # digits typed into the name are no labels
    file = saved(page, folder)
    returned = label_page.run(PageConfig(output_dir=str(folder), answers=[str(file)])).returned
    labels = read_labels(folder / "labels.jsonl")
    assert [(x.uid, x.label, x.annotator) for x in labels] == [
        ("u0", "positive", "Ana 1"),
        ("u1", "negative", "Ana 1"),
        ("u2", "neutral", "Ana 1"),
        ("u4", "neutral", "Ana 1"),
    ]
    assert labels[2].completion == HOSTILE
    assert all(x.lead_time is not None and x.lead_time < 60 for x in labels)
    assert returned is not None
    assert {k: n for k, n in returned.counts.items() if n} == {"labelled": 4, "skipped": 1}
    row = json.loads(file.read_text(encoding="utf-8"))
    assert re.fullmatch("[0-9a-f]{32}", row["session"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", row["saved_at"])


@pytest.mark.real
def test_two_tabs_of_one_page_lose_nothing(page: Page, tmp_path: Path) -> None:
    """The second tab was opened before the first one's answers: what it keeps holds them too."""
    folder = tmp_path / "folder"
    path = make(folder, [Sample(f"u{i}", "", f"text {i}", "m") for i in range(4)])
    page.goto(path.as_uri())
    other = page.context.new_page()
    other.goto(path.as_uri())
    page.keyboard.press("1")
    page.keyboard.press("1")
    other.bring_to_front()
    # No hand is faster than a browser tells its other tabs; a busy machine takes seconds.
    told = "([word, count]) => Object.values(localStorage).join().split(word).length > count"
    other.wait_for_function(told, arg=["Positive", 2])
    other.keyboard.press("2")  # its screen still shows the first text
    page.bring_to_front()
    page.wait_for_function(told, arg=["Negative", 1])
    page.keyboard.press("3")
    page.fill("#name", "ana")
    row = json.loads(saved(page, folder).read_text(encoding="utf-8"))
    assert [(x["uid"], x["choice"]) for x in row["answers"]] == [
        ("u0", "Positive"),
        ("u1", "Positive"),
        ("u0", "Negative"),
        ("u2", "Neutral"),
    ]


@pytest.mark.real
def test_comparisons_with_chat_turns(page: Page, tmp_path: Path) -> None:
    prompt = "\n\nHuman: Hello?\n\nAssistant:"
    samples = [Sample(f"u{i}", prompt + " " * (i // 2), ("good", "bad")[i % 2], "m") for i in range(12)]
    folder = tmp_path / "folder"
    path = make(folder, samples, kind="comparison", prompt_format="hh")
    page.goto(path.as_uri())
    assert page.inner_text(".turn b").lower() == "human"
    for _ in range(6):
        left, right = page.locator(".text").all_inner_texts()
        page.keyboard.press("1" if left == "good" else "2")
        assert {left, right} == {"good", "bad"}
    page.fill("#name", "ana")
    label_page.run(PageConfig(output_dir=str(folder), answers=[str(saved(page, folder))]))
    comparisons = read_comparisons(folder / "comparisons.jsonl")
    assert [(c.chosen, c.rejected, c.tie) for c in comparisons] == [("good", "bad", False)] * 6


def answers(folder: Folder, name: str, file: str = "", **changes: object) -> Path:
    row = {
        "packet": folder.need_plan().packet,
        "annotator": name,
        "answers": [
            {"uid": "u0", "choice": "Positive", "lead_time": 1.0, "at": "2026-01-01T00:00:00Z"},
            {"uid": "stranger", "choice": "Positive", "lead_time": 1.0, "at": ""},
            {"uid": "u1", "choice": "Wonderful", "lead_time": -1, "at": ""},
        ],
        **changes,
    }
    path = folder.path.parent / f"{file or name}.json"
    path.write_text(json.dumps(row), encoding="utf-8")
    return path


def test_collecting_is_repeatable_and_counts_what_is_foreign(tmp_path: Path) -> None:
    make(tmp_path / "folder", [Sample("u0", "", "a", "m"), Sample("u1", "", "b", "m")])
    folder = Folder(tmp_path / "folder")
    ana, ben = answers(folder, "ana"), answers(folder, "ben")
    for files in ([ana], [ben], [ana, ben]):
        returned = collect(folder, files)
    assert [(x.uid, x.annotator) for x in read_labels(folder.path / "labels.jsonl")] == [("u0", "ana"), ("u0", "ben")]
    assert {k: n for k, n in returned.counts.items() if n} == {"labelled": 2, "unknown task": 2, "unknown choice": 2}


def given(uid: str, choice: str | None, minute: int) -> dict[str, object]:
    return {"uid": uid, "choice": choice, "lead_time": 1.0, "at": f"2026-01-01T00:{minute:02d}:00.000Z"}


def found(folder: Folder) -> list[tuple[str, str, str]]:
    return [(x.uid, x.label, x.annotator) for x in read_labels(folder.path / "labels.jsonl")]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("sessions", [("s1", "s2"), ("", "")])
def test_two_files_of_one_name_are_added_up(tmp_path: Path, together: bool, sessions: tuple[str, str]) -> None:
    """Another browser, another day: both files count; of two answers to one text the later, whatever the order."""
    make(tmp_path / "folder", [Sample(f"u{i}", "", f"text {i}", "m") for i in range(4)])
    folder = Folder(tmp_path / "folder")
    first = [given("u0", "Positive", 1), given("u1", "Positive", 9), given("u2", None, 3)]
    second = [given("u1", "Negative", 5), given("u3", "Neutral", 6)]
    files = [
        answers(folder, "ana", "one", answers=first, session=sessions[0]),
        answers(folder, "ana", "two", answers=second, session=sessions[1]),
    ]
    for order in (files, files[::-1]):
        for some in [order] if together else [[file] for file in order]:
            returned = collect(folder, some)
        assert found(folder) == [("u0", "positive", "ana"), ("u1", "positive", "ana"), ("u3", "neutral", "ana")]
        assert {k: n for k, n in returned.counts.items() if n} == {"labelled": 3, "skipped": 1, "superseded": 1}
        (note,) = returned.notes
        assert "'ana' answered 1 texts differently" in note


def test_a_file_saved_again_counts_once_and_what_was_undone_is_gone(tmp_path: Path) -> None:
    make(tmp_path / "folder", [Sample(f"u{i}", "", f"text {i}", "m") for i in range(3)])
    folder = Folder(tmp_path / "folder")
    early = [given("u0", "Positive", 1), given("u1", "Positive", 2), given("u2", "Positive", 3)]
    late = [given("u0", "Positive", 1), given("u1", "Negative", 5)]
    times = {"one": "2026-01-01T01:00:00Z", "two": "2026-01-01T02:00:00+00:00"}
    files = [
        answers(folder, "ana", name, answers=given, session="s", saved_at=times[name])
        for name, given in (("one", early), ("two", late))
    ]
    for order in (files, files[::-1]):
        returned = collect(folder, order)
        assert found(folder) == [("u0", "positive", "ana"), ("u1", "negative", "ana")]
        assert {k: n for k, n in returned.counts.items() if n} == {"labelled": 2, "undone in a later file": 1}
        assert not returned.notes


def test_ratings_of_two_files_of_one_name_are_added_up(tmp_path: Path) -> None:
    """A blind packet of eight texts, rated by one person in two browsers, four each."""
    folder = Folder(tmp_path / "folder")
    folder.path.mkdir()
    tasks = [Task(f"u{i}", "", f"text {i}") for i in range(8)]
    plan, _ = plan_tasks(folder, RATING, "Ratings", tasks)
    folder.write_plan(page_plan(plan))
    halves = [[given(f"u{i}", str(1 + i % 5), i) for i in some] for some in (range(4), range(4, 8))]
    files = [answers(folder, "ana", f"file {i}", answers=half, session=f"s{i}") for i, half in enumerate(halves)]
    for order in (files, files[:1]):
        ratings = collect(folder, order).ratings
        assert [(x.uid, x.rating) for x in ratings] == [(f"u{i}", 1 + i % 5) for i in range(8)]


def test_one_browser_under_two_names_is_said(tmp_path: Path) -> None:
    make(tmp_path / "folder", [Sample("u0", "", "a", "m"), Sample("u1", "", "b", "m")])
    folder = Folder(tmp_path / "folder")
    one = answers(folder, "ana", answers=[given("u0", "Positive", 1)], session="s")
    two = answers(folder, "ben", answers=[given("u0", "Positive", 1), given("u1", "Positive", 2)], session="s")
    (note,) = collect(folder, [one, two]).notes
    assert "'ana' and 'ben' saved 1 same answers in one browser" in note


def test_labels_imported_into_the_folder_stay(tmp_path: Path) -> None:
    make(tmp_path / "folder", [Sample("u0", "", "a", "m"), Sample("u1", "", "b", "m")])
    folder = Folder(tmp_path / "folder")
    collect(folder, [answers(folder, "ana", answers=[given("u0", "Positive", 1)])])
    (tmp_path / "more.csv").write_text("text,sentiment\nelsewhere,negative\n", encoding="utf-8")
    output = str(folder.path / "labels.jsonl")
    import_labels.run(ImportConfig(str(tmp_path / "more.csv"), output, append=True))
    returned = collect(folder, [answers(folder, "ben", answers=[given("u0", "Negative", 1)])])
    assert [x.completion for x in read_labels(folder.path / "labels.jsonl")] == ["a", "a", "elsewhere"]
    assert returned.counts["of other texts, kept"] == 1


def test_another_text_under_a_known_uid_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "folder", [Sample("u0", "", "a", "m"), Sample("u1", "", "b", "m")])
    before = (tmp_path / "folder" / "tasks.jsonl").read_bytes()
    with pytest.raises(InputError, match="got another text for 'u1'; expected the texts that were handed out"):
        make(tmp_path / "folder", [Sample("u0", "", "a", "m"), Sample("u1", "", "B", "m"), Sample("u2", "", "c", "m")])
    assert (tmp_path / "folder" / "tasks.jsonl").read_bytes() == before
    pairs = [Sample(f"u{i}", "p", f"text {i}", "m") for i in range(4)]
    make(tmp_path / "pairs", pairs, kind="comparison", seed=1)
    make(
        tmp_path / "pairs", [*pairs[1::-1], *pairs[2:]], kind="comparison", seed=1
    )  # the same pair the other way round
    with pytest.raises(InputError, match="got another text"):
        make(tmp_path / "pairs", [*pairs[:3], Sample("u3", "p", "new", "m")], kind="comparison", seed=1)


def test_answers_of_another_packet_or_shape_are_refused(tmp_path: Path) -> None:
    make(tmp_path / "folder", [Sample("u0", "", "a", "m"), Sample("u1", "", "b", "m")])
    folder = Folder(tmp_path / "folder")
    good = answers(folder, "ana")
    for changes, message in [({"packet": "other"}, "answers to packet other"), ({"answers": 3}, "another shape")]:
        with pytest.raises(InputError, match=message):
            collect(folder, [good, answers(folder, "ben", **changes)])
        assert not (folder.path / "labels.jsonl").exists()  # one bad file, and nothing is taken in


def test_a_second_page_keeps_its_packet_and_its_old_tasks(tmp_path: Path) -> None:
    first = [Sample("u0", "", "a", "m"), Sample("u1", "", "b", "m")]
    make(tmp_path / "folder", first)
    packet = Folder(tmp_path / "folder").need_plan().packet
    make(tmp_path / "folder", [*first, Sample("u2", "", "c", "m")])
    assert Folder(tmp_path / "folder").need_plan().packet == packet
    assert list(Folder(tmp_path / "folder").read_tasks()) == ["u0", "u1", "u2"]
