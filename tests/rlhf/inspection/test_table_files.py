"""Tables of runs as files: read back they are what the run holds, and no cell of them is a formula."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pandas
import pytest

from rlhf.commands.inspect import main
from rlhf.foundation.errors import InputError
from rlhf.inspection.evaluation import evaluate_run, read_evaluation
from rlhf.inspection.opened_run import OpenedRun
from rlhf.inspection.table_files import defused
from rlhf.runs.metrics import METRICS
from rlhf.whole_loop.inspect_runs import InspectConfig, inspect

from .conftest import MakeRun

HOSTILE = ['=HYPERLINK("http://x","y")', "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "'quoted", "＝1", 'a,"b"\nc', "NA"]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def as_read(value: Any) -> str:
    """A value as its cell has it."""
    if isinstance(value, (dict, list)):
        return json.dumps(value)
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def metrics_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_csv_says_what_metrics_jsonl_says(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(samples=10)
    inspect(str(run), tables=str(tmp_path / "tables"))
    expected = [{key: as_read(value) for key, value in row.items()} for row in metrics_of(run)]
    assert [
        {**row, "controller": row["controller"]} for row in rows_of(tmp_path / "tables" / "metrics.csv")
    ] == expected


def test_parquet_says_what_metrics_jsonl_says(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(samples=10)
    OpenedRun(run).save_tables(tmp_path / "tables")
    frame = pandas.read_parquet(tmp_path / "tables" / "metrics.parquet")
    assert frame.attrs["units"]["kl_per_completion"] == "nats per completion"
    for row, expected in zip(frame.to_dict("records"), metrics_of(run), strict=True):
        for key, value in expected.items():
            known = json.dumps(value) if isinstance(value, dict) else value
            assert row[key] == known or (known is None and pandas.isna(row[key])), key


def test_the_other_tables_are_the_run_s(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(samples=10)
    evaluate_run(run)
    tables = inspect(str(run), tables=str(tmp_path / "tables")).tables
    assert {path.name for path in tables} == {
        f"{name}.{kind}" for name in ("metrics", "ladder", "samples", "evaluation") for kind in ("csv", "parquet")
    }
    ladder = json.loads((run / "ladder.json").read_text())["rungs"]
    assert [row["kl_per_completion"] for row in rows_of(tmp_path / "tables/ladder.csv")] == [
        repr(rung["kl_per_completion"]) for rung in ladder
    ]
    samples = rows_of(tmp_path / "tables/samples.csv")
    stored = [json.loads(line) for rung in ladder for line in (run / rung["samples"]).read_text().splitlines()]
    assert [(row["completion"], row["seed"]) for row in samples] == [(s["completion"], str(s["seed"])) for s in stored]


def test_the_evaluation_has_a_row_a_rung_and_reward(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(rungs=2, samples=10)
    evaluate_run(run, quality_funcs={"length": lambda completions, **_: [float(len(c)) for c in completions]})
    inspect(str(run), tables=str(tmp_path))
    rung = read_evaluation(run / "evaluation.json").rungs[1]
    assert rung.proxy is not None
    rows = rows_of(tmp_path / "evaluation.csv")
    assert [(row["rung"], row["reward"], row["kind"]) for row in rows] == [
        (name, reward, kind)
        for name in ("kl-00.00", "kl-10.00")
        for reward, kind in (("proxy", "proxy"), ("gold", "gold"), ("length", "quality"))
    ]
    assert (rows[3]["mean"], rows[3]["se"], rows[3]["n"]) == (repr(rung.proxy.mean), repr(rung.proxy.se), "10")
    assert (rows[3]["kl_per_completion"], rows[3]["unscored"], rows[3]["samples"]) == (
        "10.000000000000002",
        "0",
        "samples",
    )


def test_a_notebook_has_the_evaluation_as_a_frame(make_run: MakeRun) -> None:
    run = OpenedRun(make_run(rungs=2, samples=10))
    assert run.scores.empty
    evaluate_run(run.directory)
    assert run.scores.reward.tolist() == ["proxy", "gold"] * 2
    assert run.scores.attrs["units"]["se"] == "reward's own"


def test_an_evaluation_of_rungs_that_are_gone_is_not_shown(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(rungs=3, samples=5)
    evaluate_run(run)
    ladder = json.loads((run / "ladder.json").read_text())
    (run / "ladder.json").write_text(json.dumps({**ladder, "rungs": ladder["rungs"][:2]}))  # resumed from before it
    assert OpenedRun(run).evaluation is None
    assert "evaluation.csv" not in {path.name for path in OpenedRun(run).save_tables(tmp_path)}


def test_several_runs_stand_in_one_table(make_run: MakeRun, tmp_path: Path) -> None:
    first, second = make_run("joy", samples=5), make_run("grief", samples=5)
    lines = metrics_of(second)
    rows = [{**row, "extra": 2**60 + 1} for row in lines]
    (second / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    inspect([str(first), str(second)], tables=str(tmp_path))
    frame = pandas.read_parquet(tmp_path / "metrics.parquet")
    assert frame.columns[0] == "run"
    assert frame.run.tolist() == ["joy"] * 20 + ["grief"] * 20
    assert frame.extra.isna().tolist() == [True] * 20 + [False] * 20
    assert int(frame.extra[20]) == 2**60 + 1
    assert frame.iteration.dtype == "Int64"
    assert [row["iteration"] for row in rows_of(tmp_path / "metrics.csv")[19:21]] == ["19", "0"]


def test_runs_of_one_name_are_told_by_their_paths(make_run: MakeRun, tmp_path: Path) -> None:
    for parent in ("a", "b"):
        (tmp_path / parent).mkdir()
        make_run(f"{parent}/run", samples=5)
    runs = [str(tmp_path / parent / "run") for parent in ("a", "b")]
    inspect(runs, tables=str(tmp_path / "tables"))
    assert {row["run"] for row in rows_of(tmp_path / "tables/ladder.csv")} == {*runs}
    with pytest.raises(InputError, match="twice; expected different runs"):
        inspect([runs[0], runs[0]], tables=str(tmp_path / "again"))


def test_no_cell_is_a_formula_and_parquet_keeps_the_text(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(rungs=2, samples=len(HOSTILE), texts=HOSTILE)
    inspect(str(run), tables=str(tmp_path))
    cells = [row["completion"] for row in rows_of(tmp_path / "samples.csv")][: len(HOSTILE)]
    assert cells == [f"'{text}" for text in HOSTILE[:8]] + HOSTILE[8:]
    assert pandas.read_parquet(tmp_path / "samples.parquet").completion.tolist()[: len(HOSTILE)] == HOSTILE


def test_a_number_is_no_formula() -> None:
    assert (defused(-1.5), defused("-1.5"), defused("a-b"), defused("")) == (-1.5, "'-1.5", "a-b", "")


def test_a_lone_surrogate_is_written(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(rungs=1, samples=1, texts=["a\ud800"])
    inspect(str(run), tables=str(tmp_path))
    assert rows_of(tmp_path / "samples.csv")[0]["completion"] == "a\\ud800"


def test_every_column_has_its_unit_beside(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(samples=5)
    evaluate_run(run)
    inspect(str(run), tables=str(tmp_path))
    units = json.loads((tmp_path / "tables.json").read_text())["units"]
    for name, table in units.items():
        assert list(table["columns"]) == list(pandas.read_csv(tmp_path / f"{name}.csv", nrows=1).columns)
    assert units["metrics"]["rows"] == 20
    assert units["metrics"]["columns"]["entropy"] == METRICS["entropy"].unit == "nats per token"
    assert units["ladder"]["columns"]["n"] == units["evaluation"]["columns"]["n"] == "samples"
    assert units["samples"]["columns"]["logprob"] == "nats, summed over the completion's tokens"


def test_a_run_without_rungs_has_its_metrics(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(status="running", samples=3)
    (run / "ladder.json").unlink()
    assert [path.name for path in OpenedRun(run).save_tables(tmp_path)] == ["metrics.csv", "metrics.parquet"]


def test_the_same_run_makes_the_same_bytes(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(samples=5)
    first = [path.read_bytes() for path in OpenedRun(run).save_tables(tmp_path / "a")]
    assert first == [path.read_bytes() for path in OpenedRun(run).save_tables(tmp_path / "b")]


def test_the_command_line_says_what_it_wrote_and_no_report(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(samples=5)
    main([str(run), "--tables", str(tmp_path / "t")])
    assert capsys.readouterr().out == f"tables: 6 files in {tmp_path}/t, units in {tmp_path}/t/tables.json\n"
    assert not (run / "report.html").exists()
    assert not (run / "evaluation.json").exists()


def test_another_s_file_is_refused_before_anything_is_written(make_run: MakeRun, tmp_path: Path) -> None:
    run, folder = make_run(samples=5), tmp_path / "figures"
    folder.mkdir()
    (folder / "entropy.svg").write_text("<svg/>")
    with pytest.raises(InputError, match=r"--figures: got .*entropy\.svg, a file of something else"):
        inspect(str(run), tables=str(tmp_path / "t"), figures=str(folder), output_path=str(tmp_path / "r.html"))
    assert not (tmp_path / "t").exists()
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "pdf"}, "--format: got it without --figures"),
        ({"port": 8000}, "--port: got it without --watch"),
        ({"port": 80, "watch": True}, "--port: got 80; expected 0 or 1024 to 65535"),
        ({"verify": True, "tables": "t"}, "--tables: got --verify beside it"),
        ({"verify": True, "figures": "f"}, "--figures: got --verify beside it"),
        ({"watch": True, "tables": "t"}, "--tables: got --watch beside it"),
        ({"watch": True, "verify": True}, "--watch: got --verify beside it"),
        ({"tables": ""}, "--tables: got an empty name"),
        ({"figures": ""}, "--figures: got an empty name"),
        ({"probe": "p", "figures": "f"}, "--probe: got it without a report"),
        ({"figures": "f", "format": "gif"}, "--format: got 'gif'; expected svg, pdf or png"),
    ],
)
def test_contradictions(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        InspectConfig(runs=["run"], **options)
