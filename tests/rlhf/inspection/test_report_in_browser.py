"""The report driven in headless Chromium from disk with the network cut off."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, sync_playwright

from rlhf.evaluation.evaluate import EvaluateConfig, evaluate
from rlhf.inspection.report import build_report

from .conftest import WORDS, MakeRun

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]
HOSTILE = [
    "<script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">",
    "nul \x00 and bell \x07",
    "over\u202eride and עברית",
    "x" * 100_000,
    "emoji 😀 👩‍👩‍👧",
    "</script><script>document.title = 'owned'</script>",
]


class Watched:
    """A page with what went wrong on it and what it asked the network for."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.faults: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda m: self.faults.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("dialog", lambda dialog: self.faults.append("dialog " + dialog.message))
        page.on("request", lambda request: self.requests.append(request.url))


@pytest.fixture
def watched(chromium: str) -> Iterator[Watched]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield Watched(browser.new_page(viewport={"width": 1280, "height": 1000}))
        browser.close()


@pytest.mark.real
def test_the_report_works_offline(make_run: MakeRun, watched: Watched) -> None:
    path = build_report(make_run(samples=60, texts=HOSTILE))
    page = watched.page
    page.goto(path.as_uri())
    page.wait_for_selector("body[data-ready=true]")
    assert watched.requests == [path.as_uri()]  # nothing else was asked for

    drawn = page.locator(".plot .main-svg").count()
    assert drawn >= 10
    # It opens on the rung where gold is highest, between the original and the last one.
    assert page.locator(".samples .head > div").all_inner_texts()[1:] == [
        "original (kl-00.00)\n0.00 nats",
        "kl-04.44\n4.44 nats",
        "kl-10.00\n10.00 nats",
    ]
    first = page.locator(".row[data-index='0'] .text").first
    assert first.inner_text() == HOSTILE[0]  # shown as text
    assert page.title().endswith("rlhf report")
    assert "␀" in page.locator(".row[data-index='1'] .text").first.inner_text()
    assert "⟨right-to-left override⟩" in page.locator(".row[data-index='2'] .text").first.inner_text()
    assert "(98,000 more characters)" in page.locator(".row[data-index='3'] .text").first.inner_text()

    # The slider, by keyboard: the samples, the table and the markers in the plots follow.
    marker = "document.getElementById('chart-reward').layout.shapes.at(-1).x0"
    before = page.evaluate(marker)
    page.locator("#rung").focus()
    page.keyboard.press("ArrowRight")
    assert "kl-06.94" in page.locator("#rung-text").inner_text()
    assert "kl-06.94" in page.locator(".samples .head").inner_text()
    assert page.locator("tr.chosen th").first.inner_text() == "kl-06.94"
    assert page.evaluate(marker) > before

    # Search and sort.
    page.keyboard.press("/")
    page.keyboard.type("emoji")
    assert page.locator("#found").inner_text() == "1 of 60 samples"
    page.locator("#search").fill("")
    page.select_option("#sort", "score proxy|high")
    shown = page.locator(".row[data-index]").evaluate_all("rows => rows.map(r => Number(r.dataset.index))")
    scores = page.evaluate(
        "JSON.parse(document.getElementById('data').textContent).runs[0].rungs[5].samples['score proxy']"
    )
    assert shown == sorted(range(60), key=lambda i: -scores[i])[: len(shown)]

    # One sample on every rung, by keyboard.
    page.locator(".row[data-index]").first.focus()
    page.keyboard.press("Enter")
    assert page.locator(".row .all > div").count() == 7
    page.emulate_media(color_scheme="dark")
    assert watched.faults == []


@pytest.mark.real
def test_two_runs_and_a_run_without_samples(make_run: MakeRun, watched: Watched) -> None:
    first, second = make_run("joy", samples=10), make_run("grief", samples=10, rungs=1)
    empty = make_run("empty")
    (empty / "ladder.json").unlink()
    page = watched.page
    page.goto(build_report(first, others=[second, empty]).as_uri())
    page.wait_for_selector("body[data-ready=true]")
    page.select_option("#run", "1")
    assert page.locator("#rung-text").inner_text().startswith("kl-00.00")
    page.select_option("#run", "2")
    assert page.locator("#no-samples").is_visible()
    page.select_option("#run", "0")
    assert page.locator(".row[data-index]").count() == 10
    assert watched.faults == []


@pytest.mark.real
def test_the_legend_of_eight_runs_leaves_the_plots_their_room(make_run: MakeRun, watched: Watched) -> None:
    first, *others = [make_run(f"a method whose name is long, seed {seed}", samples=10) for seed in range(8)]
    watched.page.goto(build_report(first, others=others).as_uri())
    watched.page.wait_for_selector("body[data-ready=true]")
    plots = watched.page.eval_on_selector_all(".nsewdrag", "all => all.map(one => one.getBoundingClientRect().height)")
    assert len(plots) > 3
    assert min(plots) > 130, plots


@pytest.mark.real
def test_a_real_run_with_colours_and_side_effects(trained_run: Path, tmp_path: Path, watched: Watched) -> None:
    directory = Path(shutil.copytree(trained_run, tmp_path / "run"))
    options = {
        "num_samples": 200,
        "heat_samples": 10,
        "gold_reward_func": ["length"],
        "best_of_n_samples": 0,
        "quiet": True,
    }
    evaluate.run(EvaluateConfig(run=str(directory), **options))  # type: ignore[arg-type]
    page = watched.page
    page.goto(build_report(directory).as_uri())
    page.wait_for_selector("body[data-ready=true]")
    page.locator("tr[data-rung]").last.click()  # a row of the ladder chooses its rung

    # Colours: no KL on the original, some on the last rung; a full stop is paid 1.
    page.select_option("#heat", "kl")
    colours = "tokens => tokens.map(t => t.style.backgroundColor)"
    first, last = page.locator(".row[data-index='0'] .text").first, page.locator(".row[data-index='0'] .text").last
    assert set(first.locator(".token").evaluate_all(colours)) <= {"rgba(138, 99, 210, 0)"}
    assert set(last.locator(".token").evaluate_all(colours)) != {"rgba(138, 99, 210, 0)"}
    page.select_option("#heat", "pay")
    stops = page.locator(".token", has_text=".").evaluate_all("tokens => tokens.map(t => t.title)")
    assert stops
    assert set(stops) == {"1.000 reward"}

    # Side effects: the rewarded full stop stands apart, and a finding leads to its samples.
    assert "What the reward pays for" in page.locator("#effects").inner_text()
    stop = page.locator("#effects-tables .wide button")
    assert stop.inner_text() == "."
    stop.click()
    assert page.locator("#search").input_value() == "."
    texts = page.locator(".row[data-index]").evaluate_all("rows => rows.map(r => r.innerText)")
    assert texts
    assert all("." in text for text in texts)
    page.locator("#rung").fill("0")
    assert "This is the original" in page.locator("#effects-note").inner_text()
    assert watched.faults == []


@pytest.mark.long
@pytest.mark.real
@pytest.mark.slow
def test_fifty_rungs_of_a_thousand_samples_open_fast(make_run: MakeRun, watched: Watched) -> None:
    words = np.random.default_rng(0).choice(WORDS, size=(1000, 40))  # completions of 200 characters
    path = build_report(make_run(rungs=50, samples=1000, texts=[" ".join(row) for row in words]))
    assert path.stat().st_size < 30e6
    page, seconds = watched.page, []
    for _ in range(3):  # the least of three: other work on the machine must not fail it
        started = time.perf_counter()
        page.goto(path.as_uri())
        page.wait_for_selector(".row[data-index]")
        seconds.append(time.perf_counter() - started)
    page.wait_for_selector("body[data-ready=true]")
    print(f"opens in {min(seconds):.2f} s, {path.stat().st_size / 1e6:.1f} MB")
    assert min(seconds) < 3
    page.locator("#rung").fill("49")
    assert page.locator("#rung-text").inner_text().startswith("kl-10.00")
    assert watched.faults == []
