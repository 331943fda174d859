"""`rlhf demo`: interrupted, continued, finished, and its directory guarded."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlhf.foundation.errors import InputError
from rlhf.whole_loop.staged import StagedWork, is_done

DEMO = [sys.executable, "-m", "rlhf.cli", "demo", "--reward", "full_stop", "--quiet", "--output_dir"]


@pytest.mark.slow
def test_interrupted_in_its_ppo_it_goes_on_and_finished_it_tells_again(tmp_path: Path) -> None:
    root = tmp_path / "demo"
    process = subprocess.Popen([*DEMO, str(root)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics = root / "ppo" / "metrics.jsonl"
    deadline = time.monotonic() + 400
    while (not metrics.exists() or len(metrics.read_text().splitlines()) < 3) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert "same command" in said
    assert json.loads((root / "ppo" / "run.json").read_text())["status"] != "finished"
    begun = (root / "model" / "model.safetensors").stat().st_mtime_ns

    finished = subprocess.run([*DEMO, str(root)], capture_output=True, text=True, check=True).stdout
    assert (root / "model" / "model.safetensors").stat().st_mtime_ns == begun  # the language model was kept
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [line["iteration"] for line in lines] == list(range(len(lines)))
    assert lines[-1]["kl_per_completion"] > 9  # the final rung's own samples say 10
    assert f"report: {root / 'report.html'}" in finished
    assert not list((root / "ppo").glob("report.html"))  # the demo has one report
    report = (root / "report.html").stat().st_mtime_ns

    again = subprocess.run([*DEMO, str(root)], capture_output=True, text=True, check=True).stdout
    summary = finished[finished.index("language model: ") :]
    assert again.strip() == summary.strip()
    assert (root / "report.html").stat().st_mtime_ns == report


def test_a_stage_is_done_once_and_its_seconds_are_kept(tmp_path: Path) -> None:
    root, calls = tmp_path / "work", []

    def work() -> None:
        calls.append(1)
        (root / "product").write_text("there")

    stages = StagedWork(root, root / "work.json", {"seed": 0})
    stages.do("first", root / "product", work, "first")
    stages.do("first", root / "product", work, "first")
    assert len(calls) == 1
    assert json.loads((root / "work.json").read_text())["seconds"].keys() == {"first"}
    again = StagedWork(root, root / "work.json", {"seed": 0})
    assert again.seconds == stages.seconds
    with pytest.raises(InputError, match=r"--seed: got 1 in .*; expected 0, as it began"):
        StagedWork(root, root / "work.json", {"seed": 1})
    with pytest.raises(InputError, match=r"not empty and without demo\.json"):
        StagedWork(root, root / "demo.json", {})


def test_a_first_stage_that_failed_binds_nobody_to_its_options(tmp_path: Path) -> None:
    root = tmp_path / "work"

    def fail() -> None:
        (root / ".model.left.tmp").write_text("")
        raise InputError("--corpus", got="missing.txt", expected="a text file", fix="check the path")

    with pytest.raises(InputError, match=r"missing\.txt"):
        StagedWork(root, root / "work.json", {"corpus": "missing.txt"}).do("first", root / "product", fail, "first")
    corrected = StagedWork(root, root / "work.json", {"corpus": "there.txt"})
    corrected.do("first", root / "product", lambda: (root / "product").write_text("there"), "first")
    with pytest.raises(InputError, match=r"expected there\.txt, as it began"):
        StagedWork(root, root / "work.json", {"corpus": "missing.txt"})


def test_seconds_of_an_interrupted_stage_count(tmp_path: Path) -> None:
    root = tmp_path / "work"
    work = StagedWork(root, root / "work.json", {})
    work.do("first", root / "one", lambda: (root / "one").write_text(""), "first")

    def interrupted() -> None:
        time.sleep(0.05)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work.do("second", root / "two", interrupted, "second")
    before = json.loads((root / "work.json").read_text())["seconds"]["second"]
    assert before >= 0.05
    again = StagedWork(root, root / "work.json", {})
    again.do("second", root / "two", lambda: (root / "two").write_text(""), "second")
    assert again.seconds["second"] >= before


def test_a_ppo_run_is_done_when_it_says_so(tmp_path: Path) -> None:
    record = tmp_path / "run.json"
    assert not is_done(record)
    record.write_text('{"status": "running"}')
    assert not is_done(record)
    record.write_text('{"status": "finished"}')
    assert is_done(record)
