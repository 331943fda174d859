"""The page of a reward model: what it says, and that hostile words do it no harm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

from rlhf.commands.inspect import main
from rlhf.foundation.errors import InputError
from rlhf.inspection.reward_page import binomial_error, correlation
from rlhf.whole_loop.inspect_runs import InspectConfig, inspect

HOSTILE = "</script><script>document.title='owned'</script>"


def share(value: float, n: int) -> dict[str, Any]:
    """An accuracy with an interval, as reward_model.json has it."""
    return {"share": value, "n": n, "low": value - 0.05, "high": min(1.0, value + 0.05)}


@pytest.fixture
def reward(tmp_path: Path) -> Path:
    """A directory with the file of a reward model (the page reads no weights)."""
    report = {
        "kind": "token",
        "target": "positive",
        "base_model": "runs/model",
        "labels": {"rows": 2400, "by_label": {"positive": 1500, "negative": 900}},
        "held_out": {
            "accuracy": share(0.843, 153),
            "majority_share": 0.53,
            "expected_calibration_error": 0.037,
            "reliability": [
                {"n": 24, "predicted": 0.1, "labelled": 0.0},
                {"n": 24, "predicted": 0.9, "labelled": 0.95},
            ],
        },
        "better_than_chance": True,
        "normalization": {"offset": -1.015, "offset_se": 0.02, "scale": 0.915, "n": 2048},
        "trust": {
            "accuracy_by_margin": [{"log_odds_from": 0.0, "log_odds_to": 1.2, "accuracy": share(0.67, 52)}],
            "accuracy_by_annotator_confidence": {"agreed": share(0.88, 155), "divided": None},
            "correlation_with_length_in_words": {"r": -0.049, "n": 2048, "low": -0.092, "high": -0.006},
            "common_words": [{"word": HOSTILE, "n_with": 219, "difference": 0.23, "standard_error": 0.045}],
            "scores_on_base_samples": {"quantiles": {"5": -2.97, "95": -0.06}},
        },
        "guards": [{"name": "sign", "passed": False, "says": "good texts score below bad ones"}],
        "learning_curve": {
            "points": [{"texts": 600, "accuracy": share(0.7, 100)}, {"texts": 2400, "accuracy": share(0.84, 100)}],
            "next_gain": {"labels": 100, "gain": 0.004, "low": -0.002, "high": 0.01},
        },
    }
    directory = tmp_path / "reward_model"
    directory.mkdir()
    (directory / "reward_model.json").write_text(json.dumps(report))
    return directory


@pytest.fixture
def probe(tmp_path: Path) -> Path:
    """What `rlhf probe` leaves behind."""
    directory = tmp_path / "probe"
    directory.mkdir()
    text = {"score": -0.012, "start_score": -0.5, "n_edits": 2, "completion": HOSTILE, "logprob": -70.0}
    found = {
        "attribution_samples": 200,
        "words_paid_for": [{"word": "praised", "worth": 0.363, "standard_error": 0.1, "n_texts": 5}],
        "words_punished": [],
        "highest": [text],
        "lowest": [],
    }
    (directory / "probe.json").write_text(json.dumps(found))
    return directory


def test_it_says_what_the_file_says(reward: Path, probe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(reward), "--probe", str(probe)])
    assert f"report: {reward / 'report.html'}" in capsys.readouterr().out
    html = (reward / "report.html").read_text(encoding="utf-8")
    for said in ("84.3%", "79.3% to 89.3% (95 %), n = 153", "0.037", "2,400", "1500 positive, 900 negative"):
        assert said in html
    for said in ("-1.01 ± 0.02", "sign: FAILED", "r = -0.049 (-0.092 to -0.006, 95 %), n = 2,048", "+0.363 ± 0.100"):
        assert said in html
    assert "100 labels would bring +0.4 points (-0.2 to +1.0)" in html
    assert "no word for certain" in html
    assert HOSTILE not in html


@pytest.mark.real
def test_it_draws_in_a_browser_and_hostile_words_stay_text(reward: Path, probe: Path, chromium: str) -> None:
    page_file = inspect(str(reward), probe=str(probe)).report
    assert page_file is not None
    faults: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--headless", "--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.on("console", lambda m: faults.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(page_file.as_uri())
        page.wait_for_selector("body[data-ready]")
        assert page.locator(".plot .main-svg").count() >= 3  # reliability, margin, learning curve
        assert page.title() == "reward_model · rlhf reward model"
        assert page.locator("td.text").first.inner_text() == HOSTILE
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        browser.close()
    assert faults == []


def test_mistakes(reward: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--probe: got no"):
        inspect.run(InspectConfig(runs=[str(reward)], probe=str(tmp_path)))
    with pytest.raises(InputError, match="beside a reward model"):
        inspect.run(InspectConfig(runs=[str(tmp_path)], probe=str(tmp_path)))
    (reward / "reward_model.json").write_text("{}")
    with pytest.raises(InputError, match="reward_model"):
        inspect.run(InspectConfig(runs=[str(reward)]))


def test_errors_by_hand() -> None:
    # 0 of 24: (0 + 1)/(24 + 2) = 1/26, √(1/26 · 25/26 / 24) = 0.03925.
    assert binomial_error(0.0, 24) == pytest.approx(0.03925, abs=1e-5)
    assert correlation({}) == ""
