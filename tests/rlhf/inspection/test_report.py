"""The report as a file: what it says, what it refuses, and that hostile text stays text."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from rlhf.commands.first_words import first_words
from rlhf.commands.inspect import main
from rlhf.foundation.errors import InputError
from rlhf.inspection.display import display_text, script_json
from rlhf.inspection.evaluation import evaluate_run, read_evaluation
from rlhf.inspection.report import breaks, build_report
from rlhf.runs.reading import Run

from .conftest import MakeRun


def page_data(html: str) -> dict[str, object]:
    """The JSON that the page carries."""
    found = json.loads(html.split('<script type="application/json" id="data">')[1].split("</script>")[0])
    assert isinstance(found, dict)
    return found


def test_the_report_tells_the_run(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(samples=40)
    main([str(run)])
    assert "opens offline" in capsys.readouterr().out
    html = (run / "report.html").read_text(encoding="utf-8")
    assert "KL budget of 10 nats reached" in html
    assert "stops rising at" in html
    assert "evaluated from the samples stored" in html  # and says so
    assert html.count("plotly.js v") == 1
    assert "&lt;b&gt;run&lt;/b&gt;" in html  # the configuration is escaped
    assert "clip_ratio/outside_mean: tokens with |ratio - 1| &gt; epsilon" in html  # hover text from METRICS
    assert (run / "evaluation.json").exists()
    charts = page_data(html)["charts"]
    assert isinstance(charts, list)
    assert {"along-0", "along-1", "reward", "kl", "sqrt-kl", "clip", "batch", "entropy", "length"} <= {
        chart["id"] for chart in charts
    }
    reward = next(chart for chart in charts if chart["id"] == "reward")
    assert any("clip fraction 0.4 %" in note.get("hovertext", "") for note in reward["layout"]["annotations"])


def test_hostile_text_cannot_leave_the_data(make_run: MakeRun) -> None:
    hostile = "</script><script>alert(1)</script><!--"
    run = make_run(rungs=3, samples=3, texts=[hostile, "x" * 100_000])
    html = build_report(run).read_text(encoding="utf-8")
    assert "<script>alert(1)" not in html
    rungs = page_data(html)["runs"][0]["rungs"]  # type: ignore[index]
    assert rungs[0]["samples"]["text"][0] == hostile
    assert rungs[0]["samples"]["text"][1].endswith("x … (98,000 more characters)")


def test_display_text_shows_what_hides() -> None:
    assert display_text("a\x00b\x1b\x7f\tc\n", 99) == "a␀b␛␡\tc\n"
    assert display_text("x\u202ey", 99) == "x⟨right-to-left override⟩y"
    assert display_text("\ud800!", 99) == "\ufffd!"
    assert display_text("עברית 👩‍👧", 99) == "עברית 👩‍👧"
    assert display_text("abcdef", 4) == "abcd … (2 more characters)"


def test_script_json_refuses_nan() -> None:
    assert script_json({"a": "</script>&\u2028"}) == '{"a":"\\u003c/script\\u003e\\u0026\\u2028"}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        script_json(float("nan"))


def test_a_run_without_rungs_or_still_going_is_shown(make_run: MakeRun) -> None:
    run = make_run(status="running", gold=None)
    (run / "ladder.json").unlink()
    html = build_report(run).read_text(encoding="utf-8")
    assert "still running (or interrupted): what follows is as of iteration 19" in html
    assert "no rung has samples yet" in html


def test_an_evaluation_is_kept_when_the_run_went_on(make_run: MakeRun) -> None:
    run = make_run(rungs=6, samples=20, gold=None)
    ladder = json.loads((run / "ladder.json").read_text())
    shorter = {**ladder, "rungs": ladder["rungs"][:5]}
    (run / "ladder.json").write_text(json.dumps(shorter))
    evaluate_run(run, {"mine": lambda completions, **_: [1.0] * len(completions)})
    (run / "ladder.json").write_text(json.dumps(ladder))
    html = build_report(run).read_text(encoding="utf-8")
    assert "evaluated before kl-10.00 came" in html
    assert read_evaluation(run / "evaluation.json").golds == ["mine"]  # not overwritten by one without gold
    # A run resumed from before its last rungs: what was said of them is no longer true.
    (run / "ladder.json").write_text(json.dumps({**ladder, "rungs": ladder["rungs"][:3]}))
    assert "evaluated from the samples stored" in build_report(run).read_text(encoding="utf-8")
    assert len(read_evaluation(run / "evaluation.json").rungs) == 3


def test_one_rung_only(make_run: MakeRun) -> None:
    html = build_report(make_run(rungs=1)).read_text(encoding="utf-8")
    assert "fewer than 4 rungs" in html


def test_rewards_all_equal(make_run: MakeRun) -> None:
    run = make_run(rungs=3, samples=4, gold=None)
    for path in (run / "samples").iterdir():
        rows = [{**json.loads(line), "reward": 1.0} for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "1.00 → 1.00" in build_report(run).read_text(encoding="utf-8")


def test_two_runs_in_one_report(make_run: MakeRun, tmp_path: Path) -> None:
    first, second = make_run("joy", samples=10), make_run("grief", samples=10, seed=1)
    html = build_report(first, tmp_path / "both.html", others=[second]).read_text(encoding="utf-8")
    assert "<h1>joy</h1>" in html
    assert "<h1>grief</h1>" in html
    assert len(page_data(html)["runs"]) == 2  # type: ignore[arg-type]


def test_the_command_line(tmp_path: Path) -> None:
    assert first_words(["a", "b", "--output_path", "c"], "runs") == ["--runs", "a", "b", "--output_path", "c"]
    with pytest.raises(InputError, match="got no run"):
        main([])
    with pytest.raises(InputError, match="got no such directory"):
        main([str(tmp_path / "none")])


def test_the_findings_name_what_else_changed(make_run: MakeRun) -> None:
    run = make_run(rungs=4, samples=60)
    for number, path in enumerate(sorted((run / "samples").iterdir())):  # dear comes, scorn goes
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            row["completion"] = row["completion"].replace("scorn", "scorn" if number == 0 else "dear")
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    html = build_report(run).read_text(encoding="utf-8")
    told = html.split("What else changed by kl-10.00: ")[1].split("</li>")[0]
    assert "more common “dear”" in told
    assert "less common “scorn”" in told


def test_every_number_says_what_it_means(make_run: MakeRun) -> None:
    html = build_report(make_run(samples=40)).read_text(encoding="utf-8")
    facts = html.split('<dl class="facts">')[1].split("</dl>")[0]
    assert facts.count("<dt>") == len(re.findall(r'title="[^"]{20,}"', facts)) == 5
    tables = html.split('id="rungs"')[1].split('id="training"')[0]
    bare = re.findall(r"<th>([^<]+)</th>", tables)
    assert set(bare) == {"rung", "first sample"}  # every column of figures explains itself on hover
    assert "goodness p" in html.split('class="fits"')[1]


def test_a_break_and_a_step_too_far_are_told_above_the_figures() -> None:
    lines = [
        {"iteration": 0, "accepted_changes": None, "step_too_large": None},
        {"iteration": 1, "accepted_changes": ["prompts", "tokenizer"], "step_too_large": "29.5 nats in one iteration"},
    ]
    run = Run(Path("runs/mine"), {}, lines, [], None)
    assert breaks(run) == [
        "mine: from iteration 1 on with another prompts, tokenizer.",
        "mine: 29.5 nats in one iteration.",
    ]
