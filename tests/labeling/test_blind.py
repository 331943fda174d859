"""Blind packets: nothing that a rater or the API can reach names the source, and unblinding inverts blinding."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest

from labeling.blind import blind, make_packet, read_key, unblind, unrated
from labeling.campaign import push_all
from labeling.fetching import check_config, fetch
from labeling.folder import Folder
from labeling.page_file import page_plan, write_page
from labeling.returned import Rating
from labeling.server_raters import result_of
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import Sample
from tests.labeling.browser import chromium_browser, log_in
from tests.labeling.conftest import Live

SOURCES = ("checkpoint-zebra", "original-quokka")
SAMPLES = [Sample(f"sample-{i}", "", f"text {i // 2}", SOURCES[i % 2]) for i in range(12)]


def rating(uid: str, annotator: str = "ana", value: int = 3) -> Rating:
    return Rating(uid, value, annotator, "", None)


def test_unblinding_inverts_blinding() -> None:
    tasks, key = blind(SAMPLES, seed=0)
    value = {s.uid: 1 + i % 5 for i, s in enumerate(SAMPLES)}
    by_text = {row.uid: value[row.sample_uid] for row in key}
    back = unblind([rating(task.uid, value=by_text[task.uid]) for task in tasks], key)
    assert {one.sample_uid: one.rating for one in back} == value
    assert {one.sample_uid: one.source for one in back} == {s.uid: s.source for s in SAMPLES}


def test_uids_are_fresh_and_the_order_is_by_lot() -> None:
    (one, key_one), (two, _) = blind(SAMPLES, seed=0), blind(SAMPLES, seed=0)
    assert not {t.uid for t in one} & {t.uid for t in two}
    assert not {t.uid for t in one} & {s.uid for s in SAMPLES}
    assert [row.sample_uid for row in key_one] != [s.uid for s in SAMPLES]
    sources = [row.source for row in key_one]
    assert sources != sorted(sources)
    assert all(task.source == "" for task in one)


def test_an_empty_text_is_rated_too() -> None:
    tasks, _ = blind([Sample("a", "", "  ", "m")], seed=0)
    assert tasks[0].text == "(empty)"


def test_what_cannot_be_unblinded_is_refused() -> None:
    tasks, key = blind(SAMPLES, seed=0)
    with pytest.raises(InputError, match="a uid of this packet"):
        unblind([rating("stranger")], key)
    with pytest.raises(InputError, match="rated twice by ana"):
        unblind([rating(tasks[0].uid), rating(tasks[0].uid)], key)
    assert unrated([rating(task.uid) for task in tasks[:5]] + [rating(tasks[0].uid, "ben")], key) == {
        "ana": 7,
        "ben": 11,
    }
    assert unrated([rating(task.uid) for task in tasks], key) == {}


def test_a_packet_is_made_once_and_a_title_may_not_tell(folder: Folder) -> None:
    with pytest.raises(InputError, match="does not name what is compared"):
        make_packet(folder, SAMPLES, title="zebra or Original-Quokka", seed=0)
    _, first = make_packet(folder, SAMPLES, title="Which text", seed=0)
    _, again = make_packet(folder, SAMPLES, title="Which text", seed=0)
    assert first == again
    with pytest.raises(InputError, match="a packet of other samples"):
        make_packet(folder, SAMPLES[:4], title="Which text", seed=0)
    assert len(read_key(folder.path / "key.jsonl")) == 12


@pytest.mark.parametrize("lost", [("project.json",), ("project.json", "tasks.jsonl")], ids="and ".join)
def test_a_packet_whose_making_was_cut_short_is_made_when_asked_again(folder: Folder, lost: tuple[str, ...]) -> None:
    make_packet(folder, SAMPLES, title="A study", seed=0)
    for name in lost:
        (folder.path / name).unlink()
    plan, tasks = make_packet(folder, SAMPLES, title="A study", seed=0)
    assert plan == folder.read_plan()
    assert [task.uid for task in tasks] == [row.uid for row in read_key(folder.path / "key.jsonl")]


def test_the_offline_page_names_no_source(folder: Folder) -> None:
    plan, tasks = make_packet(folder, SAMPLES, title="Which text", seed=0)
    path = folder.path / "rate.html"
    write_page(path, title=plan.title, screen=plan.screen, tasks=tasks, packet=page_plan(plan).packet)
    assert not leaks(path.read_text(encoding="utf-8"))


def leaks(text: str) -> list[str]:
    """Words of the source, or uids that lead to it."""
    return [w for w in ("zebra", "quokka", "checkpoint-z", "sample-") if w in text.lower()]


@pytest.mark.real
@pytest.mark.slow
def test_no_word_of_the_source_is_on_the_server(
    label_studio: Live, folder: Folder, title: str, chromium: str, tmp_path: Path
) -> None:
    """Searched: every answer the page fetches while tasks are listed and labelled, and the API's own answers."""
    studio = label_studio.connect()
    plan, tasks = make_packet(folder, SAMPLES, title=title, seed=3)
    push_all(folder, plan, tasks, [""], lambda _: studio, check=check_config)
    project = folder.need_plan().projects[0].id
    listed = studio.list_tasks(project)
    admin = label_studio.accounts["admin"]
    seen: list[str] = []
    with chromium_browser(chromium) as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        log_in(page, label_studio.url, admin.email, admin.password)
        page.on("response", lambda r: seen.append(r.text()) if "/api/" in r.url and r.ok else None)
        page.goto(f"{label_studio.url}/projects/{project}/data")
        page.wait_for_selector("text=text 0")
        seen.append(page.content())
        page.goto(f"{label_studio.url}/projects/{project}/data?labeling=1")
        page.wait_for_selector(".lsf-richtext__line")
        page.keyboard.press("4")
        seen.append(page.content())
    paths = [f"projects/{project}/", f"tasks?project={project}&fields=all", f"dm/views?project={project}"]
    paths += [
        f"projects/{project}/export?exportType=JSON&download_all_tasks=true",
        "projects/",
        f"tasks/{listed[0].id}/",
    ]
    for path in paths:
        request = urllib.request.Request(
            f"{label_studio.url}/api/{path}", headers={"Authorization": f"Token {admin.token}"}
        )
        with urllib.request.urlopen(request) as answer:
            seen.append(answer.read().decode())
    assert len(seen) > 10
    assert any("text 0" in text for text in seen)  # the search would have found what is there
    assert not [word for text in seen for word in leaks(text)]
    # The way back: everybody's zebra gets 5, every quokka 2, as the key alone can tell.
    key = {row.uid: row for row in read_key(folder.path / "key.jsonl")}
    for task in listed:
        assert task.uid is not None
        value = "5" if "zebra" in key[task.uid].source else "2"
        studio.annotate(task.id, result_of(plan.screen, value))
    back = unblind(fetch(folder, lambda _: studio).ratings, list(key.values()))
    assert {(one.source, one.rating) for one in back} == {(SOURCES[0], 5), (SOURCES[1], 2)}
