"""Tables of runs, or of a reward model, as CSV and Parquet, with the units of their columns beside.

A text in a CSV file that a spreadsheet would calculate has an apostrophe in front, as has one that begins with an
apostrophe itself: reading takes the first one away. Lists and objects stand as their JSON. Parquet holds texts as they
are.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf.foundation.errors import InputError
from rlhf.foundation.outputs import OwnFiles, Writer
from rlhf.foundation.tables import Report, framed
from rlhf.inspection.evaluation import Evaluation, stored_evaluation
from rlhf.inspection.kl_efficiency import kl_shares
from rlhf.inspection.scoring import PROXY
from rlhf.runs.frames import ladder_of, metrics_of, samples_of
from rlhf.runs.reading import read_run, run_name

if TYPE_CHECKING:
    from pandas import DataFrame, Series

CALCULATED = tuple("=+-@\t\r\n'＝＋－＠")  # how a cell begins that a spreadsheet takes for a formula
RECORD = "tables.json"
EVALUATION_UNITS = {
    "kl_per_completion": "nats per completion",
    "kl_per_completion_se": "nats per completion",
    "sqrt_kl": "square root of nats per completion",
    "mean": "reward's own",
    "se": "reward's own",
    "n": "samples",
    "unscored": "samples",
}
EFFICIENCY_UNITS = {"kl_per_completion": "nats per completion", "share": "of the frontier's gain", "share_se": "-"}
EFFICIENCY_UNITS |= dict.fromkeys(("gain", "gain_se", "frontier", "frontier_se"), "reward's own")


def planned_tables(runs: Sequence[Path], directory: Path) -> OwnFiles:
    """Metrics, ladder, samples and evaluation of runs as DIR/NAME.csv and .parquet, their units in DIR/tables.json.

    Several runs stand in one table, with their names in the column `run`. A table without rows is left out. Raises
    InputError where a file that is not of an earlier call stands in the way.
    """
    names = names_of(runs)
    found = [tables_of(path) for path in runs]
    joined = {table: joined_tables(names, [one.get(table) for one in found]) for table in found[0]}
    return planned(joined, directory, [str(path) for path in runs])


def planned_report(report: Report, directory: Path, of: str) -> OwnFiles:
    """What reward_model.json says as DIR/report.csv and .parquet, a row a value, numbers and texts apart."""
    rows = [{"what": what, **_sorted_out(value)} for what, value in report.frame.itertuples(index=False)]
    return planned({"report": framed(rows, {})}, directory, [of])


def _sorted_out(value: Any) -> dict[str, Any]:
    numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
    text = None if numeric or value is None else value if isinstance(value, str) else json.dumps(value)
    return {"number": float(value) if numeric else None, "text": text}


def tables_of(directory: Path) -> dict[str, DataFrame]:
    """The tables of one run by name; some may have no rows yet."""
    run = read_run(directory)
    evaluation = stored_evaluation(run)
    scores = scores_of(evaluation)
    return {
        "metrics": metrics_of(run),
        "ladder": ladder_of(run),
        "samples": samples_of(run),
        "evaluation": scores,
        "kl_efficiency": efficiency_of(evaluation),
    }


def scores_of(evaluation: Evaluation | None) -> DataFrame:
    """A row a rung and reward with units; `samples` is the folder of the run that holds what was scored."""
    return framed(_score_rows(evaluation) if evaluation else (), EVALUATION_UNITS)


def efficiency_of(evaluation: Evaluation | None) -> DataFrame:
    """A row a KL at which the run's share of the frontier's gain is told, with units."""
    shares = kl_shares(evaluation) if evaluation else []
    return framed(
        [
            {
                "kl_per_completion": one.kl, "gain": one.gain, "gain_se": one.gain_se, "frontier": one.frontier,
                "frontier_se": one.frontier_se, "share": one.share, "share_se": one.share_se,
            }
            for one in shares
        ],
        EFFICIENCY_UNITS,
    )  # fmt: skip


def _score_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    kinds = {PROXY: "proxy"} | dict.fromkeys(evaluation.golds, "gold") | dict.fromkeys(evaluation.qualities, "quality")
    rows = []
    for rung in evaluation.rungs:
        at = {"kl_per_completion": rung.kl, "kl_per_completion_se": rung.kl_se, "sqrt_kl": rung.sqrt_kl}
        for reward, kind in kinds.items():
            found = rung.reward(reward)
            scored = {"mean": found and found.mean, "se": found and found.se, "n": found.n if found else 0}
            unscored = {"unscored": rung.unscored.get(reward), "samples": evaluation.samples}
            rows.append({"rung": rung.name, **at, "reward": reward, "kind": kind, **scored, **unscored})
    return rows


def names_of(runs: Sequence[Path]) -> list[str]:
    """Runs by the names of their directories, or by their paths where two have the same one. Raises InputError."""
    paths = [str(path.resolve()) for path in runs]
    twice = next((path for path in paths if paths.count(path) > 1), None)
    if twice is not None:
        raise InputError("--runs", got=f"{twice} twice", expected="different runs", fix="name each run once")
    names = [run_name(path) for path in runs]
    return names if len({*names}) == len(names) else [str(path) for path in runs]


def joined_tables(names: Sequence[str], tables: Sequence[DataFrame | None]) -> DataFrame:
    """One below the other, the run's name in front where there are several; whole numbers stay whole."""
    from pandas import concat

    if len(tables) == 1 and tables[0] is not None:
        return tables[0]
    there = [(name, table) for name, table in zip(names, tables, strict=True) if table is not None and len(table)]
    units = {column: unit for _, table in there for column, unit in table.attrs["units"].items()}
    whole = [table.astype(dict.fromkeys(table.columns[table.dtypes == "int64"], "Int64")) for _, table in there]
    for (name, _), table in zip(there, whole, strict=True):
        table.attrs = {}
        table.insert(0, "run", name)
    frame = concat(whole, ignore_index=True) if whole else framed(())
    frame.attrs["units"] = units
    return frame


def planned(tables: Mapping[str, DataFrame], directory: Path, of: Sequence[str]) -> OwnFiles:
    """A CSV and a Parquet file of each table that has rows. Raises InputError like `OwnFiles`."""
    writers: dict[str, Writer] = {}
    about = {}
    for name, table in tables.items():
        if not len(table):
            continue
        flat = table.apply(_flat)
        units = table.attrs["units"]
        flat.attrs["units"] = units
        writers |= {f"{name}.csv": partial(write_csv, flat), f"{name}.parquet": partial(_write_parquet, flat)}
        about[name] = {"rows": len(table), "columns": {column: units.get(column, "-") for column in table.columns}}
    said = {"made_of": list(of), "csv": " ".join((__doc__ or "").split("\n\n")[1].split()), "units": about}
    return OwnFiles("--tables", directory, RECORD, writers, said)


def _flat(column: Series[Any]) -> Series[Any]:
    """A column of one kind: lists and objects, and what stands among them, as their JSON."""
    if column.dtype != object:
        return column
    kinds = {type(value) for value in column if value is not None and value == value}
    if len(kinds) <= 1 and not kinds & {list, dict}:
        return column
    return column.map(lambda value: json.dumps(value, ensure_ascii=False), na_action="ignore")


def write_csv(table: DataFrame, path: Path) -> None:
    """UTF-8, a line of names first, texts in quotes, every number with all its digits, "" where there is no value."""
    numeric = table.select_dtypes(["number", "bool"]).columns
    safe = table.apply(lambda column: column if column.name in numeric else column.map(defused, na_action="ignore"))
    safe.rename(columns=defused).to_csv(path, index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)


def rows_as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with the columns of all of them, in the order they come; lists as JSON, nothing where nothing is."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([defused(name) for name in columns])
    writer.writerows([[defused(_written(row.get(name))) for name in columns] for row in rows])
    return out.getvalue()


def _written(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (list, dict)) else "" if value is None else value


def _write_parquet(table: DataFrame, path: Path) -> None:
    table.to_parquet(path, index=False)


def defused(value: Any) -> Any:
    """A text that no spreadsheet takes for a formula; what is no text stays."""
    return f"'{value}" if isinstance(value, str) and value.startswith(CALCULATED) else value
