"""A run directory is read whole, or refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf.foundation.errors import InputError
from rlhf.runs.reading import read_ladder_samples, read_run

from .conftest import MakeRun, write_lines


def test_a_run_is_read(make_run: MakeRun) -> None:
    run = read_run(make_run(rungs=4, samples=5))
    assert [rung.name for rung in run.rungs] == ["kl-00.00", "kl-01.11", "kl-04.44", "kl-10.00"]
    assert len(run.metrics) == 20
    assert run.budget_nats == 10
    assert {name: len(rows) for name, rows in read_ladder_samples(run).items()} == {r.name: 5 for r in run.rungs}


def edit_metrics(change: Callable[[list[dict[str, object]]], None]) -> Callable[[Path], None]:
    def edit(run: Path) -> None:
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        change(rows)
        write_lines(run / "metrics.jsonl", rows)

    return edit


def edit_lines(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    def edit(run: Path) -> None:
        path = run / "metrics.jsonl"
        path.write_text("".join(change(path.read_text().splitlines(keepends=True))))

    return edit


def set_nan(rows: list[dict[str, object]]) -> None:
    rows[3]["entropy"] = float("nan")


def drop_kl(rows: list[dict[str, object]]) -> None:
    del rows[0]["kl_per_completion"]


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no run": (lambda run: (run / "run.json").unlink(), "got a directory without run.json; expected a run directory"),
    "run.json a list": (lambda run: (run / "run.json").write_text("[]"), "got a JSON list; expected a JSON object"),
    "no metrics": (lambda run: (run / "metrics.jsonl").unlink(), "got no metrics yet"),
    "empty metrics": (lambda run: (run / "metrics.jsonl").write_text(""), "got no metrics yet"),
    "torn metrics": (
        edit_lines(lambda lines: [*lines[:2], lines[2][:30] + "\n", *lines[3:]]),
        "line 3: got no valid JSON",
    ),
    "a line of metrics gone": (
        edit_lines(lambda lines: [lines[0], *lines[2:]]),
        "line 2: got iteration 2; expected the line of iteration 1",
    ),
    "NaN": (edit_metrics(set_nan), "line 4: got nan for 'entropy'; expected a finite number"),
    "no KL": (edit_metrics(drop_kl), "line 1: got None for 'kl_per_completion'"),
    "torn ladder": (
        lambda run: (run / "ladder.json").write_text((run / "ladder.json").read_text()[:150]),
        "ladder.json: got no valid JSON",
    ),
    "foreign ladder": (lambda run: (run / "ladder.json").write_text("{}"), "got a ladder of another shape"),
    "NaN rung": (
        lambda run: (run / "ladder.json").write_text(
            (run / "ladder.json").read_text().replace('"iteration": 3', '"iteration": NaN')
        ),
        "rung 2: got nan for 'iteration'",
    ),
}


@pytest.mark.parametrize(("spoil", "line"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_one_line(make_run: MakeRun, spoil: Callable[[Path], object], line: str) -> None:
    run = make_run(samples=5)
    spoil(run)
    with pytest.raises(InputError) as caught:
        read_run(run)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_torn_last_line_is_passed_over_as_on_resuming(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(samples=5)
    with (run / "metrics.jsonl").open("a") as stream:
        stream.write('{"iter')
    assert len(read_run(run).metrics) == 20
    assert "the torn last line is passed over" in capsys.readouterr().err


def test_a_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="got no such directory"):
        read_run(tmp_path / "nothing")


def test_rows_that_do_not_pair_are_refused(make_run: MakeRun) -> None:
    directory = make_run(rungs=2, samples=3)
    path = directory / "samples" / "kl-10.00.jsonl"
    path.write_text(path.read_text().replace('"seed": 1', '"seed": 7'))
    with pytest.raises(InputError, match="record 2: got another prompt or seed"):
        read_ladder_samples(read_run(directory))
