"""The offline page in a real browser, from file://, and the way back from what it saves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from labeling.answers import collect
from labeling.folder import Folder
from rlhf.commands import label_page
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import Sample, read_comparisons, read_labels, write_records
from tests.labeling.browser import chromium_browser

HOSTILE = "</script><script>window.broken = 1</script><img src=x onerror='window.broken = 1'>{{ data }}"


def make(folder: Path, samples: list[Sample], **options: object) -> Path:
    path = folder.parent / "samples.jsonl"
    write_records(path, samples)
    made = label_page.run(label_page.PageConfig(output_dir=str(folder), samples=str(path), **options))  # type: ignore[arg-type]
    assert isinstance(made, Path)
    return made


@pytest.fixture
def page(chromium: str) -> Iterator[Page]:
    with chromium_browser(chromium) as browser:
        context = browser.new_context(accept_downloads=True, viewport={"width": 1000, "height": 640})
        context.set_offline(True)
        opened = context.new_page()
        opened.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        opened.on("pageerror", lambda error: problems.append(str(error)))
        problems: list[str] = []
        yield opened
        assert not problems
        context.close()


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
    returned = label_page.run(label_page.PageConfig(output_dir=str(folder), answers=[str(file)]))
    labels = read_labels(folder / "labels.jsonl")
    assert [(x.uid, x.label, x.annotator) for x in labels] == [
        ("u0", "positive", "Ana 1"),
        ("u1", "negative", "Ana 1"),
        ("u2", "neutral", "Ana 1"),
        ("u4", "neutral", "Ana 1"),
    ]
    assert labels[2].completion == HOSTILE
    assert all(x.lead_time is not None and x.lead_time < 60 for x in labels)
    assert not isinstance(returned, Path)
    assert {k: n for k, n in returned.counts.items() if n} == {"labelled": 4, "skipped": 1}


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
    label_page.run(label_page.PageConfig(output_dir=str(folder), answers=[str(saved(page, folder))]))
    comparisons = read_comparisons(folder / "comparisons.jsonl")
    assert [(c.chosen, c.rejected, c.tie) for c in comparisons] == [("good", "bad", False)] * 6


def answers(folder: Folder, name: str, **changes: object) -> Path:
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
    path = folder.path.parent / f"{name}.json"
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
