"""Makes docs/labelling_page.png (Label Studio, an own criterion with chat turns), offline_page.png, rating_page.png
and critique_page.png.

    .venv/bin/python benchmarks/labeling_pictures.py

Needs Chromium and Label Studio (`rlhf label serve --install_only`); starts a server of its own and ends it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser

from labeling.blind import make_packet
from labeling.folder import Folder
from labeling.page_file import page_plan, write_page
from labeling.steps.page import page as label_page
from labeling.steps.push import PushConfig, push
from labeling.steps.serve import ServeConfig

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from labeling import server
from rlhf.foundation.records import Sample, write_records
from tests.labeling.browser import chromium_browser, log_in

CHAT = [
    {"role": "user", "content": "How do I boil an egg?"},
    {"role": "assistant", "content": "In water, for four to ten minutes. Soft or hard?"},
    {"role": "user", "content": "Soft, please. And what if it cracks?"},
]
REPLY = "Four minutes then, from cold water. If it cracks, a spoonful of vinegar keeps the white together."
LINES = "MARGARET.\nO gentle day, thou bring'st my heart such joy\nAs larks do bring the morning!\n\nHUGH.\nSing on."


def main() -> None:
    """Make the pictures."""
    with tempfile.TemporaryDirectory() as name, chromium_browser("/usr/bin/chromium") as browser:
        work = Path(name)
        question = {
            "question": "Is this reply helpful?",
            "choices": ["Yes,No,Unsure"],
            "map": ["Yes=positive,No=negative,Unsure=neutral"],
            "prompt_format": "messages",
            "title": "Helpful replies",
        }
        write_records(work / "chat.jsonl", [Sample(f"c{i}", json.dumps(CHAT), REPLY, "model") for i in range(12)])
        write_records(work / "lines.jsonl", [Sample(f"l{i}", "", LINES, "model") for i in range(40)])
        serve = ServeConfig(server_dir=str(work / "server"))
        running = serve.run(serve)
        try:
            pushed = push.run(
                PushConfig(
                    output_dir=str(work / "chat"),
                    samples=str(work / "chat.jsonl"),
                    server_dir=serve.server_dir,
                    quiet=True,
                    **question,  # type: ignore[arg-type]
                )
            )
            admin = server.read_accounts(serve.directory)["admin"]
            page = browser.new_page(viewport={"width": 1180, "height": 720})
            log_in(page, running.url, admin.email, admin.password)
            page.goto(pushed.addresses[0].split(": ", 1)[1])
            page.wait_for_selector("text=How do I boil an egg?")
            page.wait_for_timeout(1500)
            page.screenshot(path=ROOT / "docs" / "labelling_page.png")
        finally:
            server.stop(serve.directory)
        made = label_page(str(work / "lines.jsonl"), output_dir=str(work / "lines"), title="Feelings in verse")
        assert made.path is not None
        picture(browser, made.path, "12311321", "offline_page.png")
        picture(browser, blind_page(work / "rating"), "42355", "rating_page.png")
        picture(browser, critique_page(work), "1", "critique_page.png")


def blind_page(place: Path) -> Path:
    """A page for the blind rating of twenty texts of either of two models."""
    samples = [Sample(f"{source}-{i}", "", LINES, source) for source in ("original", "policy") for i in range(20)]
    folder = Folder(place)
    with folder.in_use():
        plan, tasks = make_packet(folder, samples, title="Blind rating", seed=0)
        plan = page_plan(plan)
        folder.write_plan(plan)
        write_page(place / "label.html", title=plan.title, screen=plan.screen, tasks=tasks, packet=plan.packet)
    return place / "label.html"


def critique_page(work: Path) -> Path:
    """A page that shows the reasons of a rule after a first answer."""
    texts = ("A lovely walk, though the rain was horrid at first.", "The day was dull and sad, and I hate the rain.")
    prompt = "One line about your day."
    write_records(work / "days.jsonl", [Sample(f"d{i}", prompt, text, "model") for i, text in enumerate(texts)])
    days: Any = {"kind": "comparison", "reasons": "lexicon_sentiment", "title": "Better lines"}
    made = label_page(str(work / "days.jsonl"), output_dir=str(work / "days"), **days)
    assert made.path is not None
    return made.path


def picture(browser: Browser, path: Path, keys: str, name: str) -> None:
    """An offline page after some answers."""
    page = browser.new_page(viewport={"width": 1000, "height": 560})
    page.goto(path.as_uri())
    page.fill("#name", "ana")
    page.keyboard.press("Tab")
    for key in keys:
        page.keyboard.press(key)
    page.screenshot(path=ROOT / "docs" / name)


if __name__ == "__main__":
    main()
