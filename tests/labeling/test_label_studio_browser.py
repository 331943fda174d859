"""People's part of the path, in a real browser against a real Label Studio: log in, press keys, see only one's own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from labeling.campaign import comparison_tasks, plan_tasks, push_all
from labeling.fetching import check_config, fetch
from labeling.folder import Folder
from labeling.pairs import Pair
from labeling.screens import COMPARISON
from labeling.server import Account
from labeling.steps.pull import PullConfig, pull
from labeling.steps.push import PushConfig, push
from rlhf.foundation.records import Sample, read_comparisons, read_labels, write_records
from tests.labeling.browser import chromium_browser, label_by_key, log_in
from tests.labeling.conftest import Live

pytestmark = pytest.mark.real

CHAT = [
    {"role": "user", "content": "How do I boil an egg?"},
    {"role": "assistant", "content": "In water. <b>Soft</b> or hard?"},
    {"role": "user", "content": "Soft, please."},
]


@pytest.fixture(autouse=True)
def local_server(label_studio: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABEL_STUDIO_URL", raising=False)
    monkeypatch.delenv("LABEL_STUDIO_API_KEY", raising=False)


def test_own_criterion_with_chat_turns_by_hotkey(label_studio: Live, chromium: str, tmp_path: Path, title: str) -> None:
    samples = [Sample(f"u{i}", json.dumps(CHAT), f"Reply {i}.", "secret-model") for i in range(3)]
    samples.append(Sample("u3", "", "Nobody asked.", "secret-model"))
    write_records(tmp_path / "samples.jsonl", samples)
    config = PushConfig(
        output_dir=str(tmp_path / "folder"),
        samples=str(tmp_path / "samples.jsonl"),
        title=title,
        question="Is this reply helpful?",
        choices=["Yes,No,Unsure"],
        map=["Yes=positive,No=negative,Unsure=neutral"],
        prompt_format="messages",
        server_dir=str(label_studio.directory),
        quiet=True,
    )
    summary = push.run(config)
    admin = label_studio.accounts["admin"]
    with chromium_browser(chromium) as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        log_in(page, label_studio.url, admin.email, admin.password)
        page.goto(summary.addresses[0].split(": ", 1)[1])
        page.wait_for_selector("text=How do I boil an egg?")
        page.wait_for_selector("text=<b>Soft</b> or hard?")  # shown as text
        assert "secret-model" not in page.content()
        for key in ("1", "2", "3"):
            label_by_key(page, key)
        page.wait_for_selector("text=(no prompt)")
        label_by_key(page, "1")
    pull.run(PullConfig(output_dir=str(tmp_path / "folder"), server_dir=str(label_studio.directory), quiet=True))
    labels = read_labels(tmp_path / "folder" / "labels.jsonl")
    assert [(x.uid, x.label, x.origin) for x in labels] == [
        ("u0", "positive", "manual"),
        ("u1", "negative", "manual"),
        ("u2", "neutral", "manual"),
        ("u3", "positive", "manual"),
    ]
    assert labels[3].prompt == ""
    assert all(x.lead_time is not None and 0 < x.lead_time < 60 for x in labels)


@pytest.mark.slow
def test_comparison_by_hotkey(label_studio: Live, chromium: str, folder: Folder, title: str) -> None:
    studio = label_studio.connect()
    tasks, _ = comparison_tasks([Pair(f"p{i}", "Say:", f"BEST {i}", f"worse {i}") for i in range(3)], seed=1)
    plan, joined = plan_tasks(folder, COMPARISON, title, tasks)
    push_all(folder, plan, joined, [""], lambda _: studio, check=check_config)
    admin = label_studio.accounts["admin"]
    with chromium_browser(chromium) as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        log_in(page, label_studio.url, admin.email, admin.password)
        page.goto(f"{label_studio.url}/projects/{folder.need_plan().projects[0].id}/data?labeling=1")
        for n in range(3):
            page.wait_for_selector(f"text=BEST {n}")
            left = page.locator(".sides .lsf-richtext").first.inner_text()
            label_by_key(page, "3" if n == 2 else "1" if "BEST" in left else "2")
    fetch(folder, lambda _: studio)
    comparisons = read_comparisons(folder.path / "comparisons.jsonl")
    assert [(c.chosen, c.tie) for c in comparisons] == [("BEST 0", False), ("BEST 1", False), ("BEST 2", True)]


@pytest.mark.slow
def test_no_rater_sees_anothers_labels(label_studio: Live, chromium: str, tmp_path: Path, title: str) -> None:
    """Three sessions at once; each labels its own project by key, and finds nothing of the others anywhere."""
    write_records(tmp_path / "samples.jsonl", [Sample("u0", "", "completion zero", "m")])
    summary = push.run(
        PushConfig(
            output_dir=str(tmp_path / "folder"),
            samples=str(tmp_path / "samples.jsonl"),
            title=title,
            raters=["ana,ben,eva"],
            server_dir=str(label_studio.directory),
            quiet=True,
        )
    )
    addresses = dict(line.split(": ", 1) for line in summary.addresses)
    assert list(addresses) == ["ana", "ben", "eva"]
    with chromium_browser(chromium) as browser:
        pages = {}
        for key, rater in enumerate(addresses, start=1):
            pages[rater] = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
            account: Account = label_studio.accounts[rater]
            log_in(pages[rater], label_studio.url, account.email, account.password)
            pages[rater].goto(addresses[rater])
            label_by_key(pages[rater], str(key))
        for rater, page in pages.items():
            page.goto(f"{label_studio.url}/projects")
            page.wait_for_selector(f"text={title} ({rater})")
            for other in set(pages) - {rater}:
                assert f"({other})" not in page.inner_text("body")
                page.goto(addresses[other].split("?")[0])
                page.wait_for_selector("text=No Project matches")
                body = page.inner_text("body")
                assert "completion zero" not in body
                assert not re.search(r"\b(Positive|Negative|Neutral)\b", body)
    pull.run(PullConfig(output_dir=str(tmp_path / "folder"), server_dir=str(label_studio.directory), quiet=True))
    labels = read_labels(tmp_path / "folder" / "labels.jsonl")
    assert [(x.annotator, x.label) for x in labels] == [("ana", "positive"), ("ben", "negative"), ("eva", "neutral")]
