"""What a run's files hold as pandas frames, the units of their columns in `.attrs["units"]`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from rlhf.foundation.errors import InputError
from rlhf.foundation.tables import UNITS, framed
from rlhf.runs.metrics import metric_of
from rlhf.runs.reading import Run, read_stored_samples

if TYPE_CHECKING:
    from pandas import DataFrame

RUNG_UNITS = {
    "target_sqrt_kl": "square root of nats per completion",
    "kl_per_completion": "nats per completion",
    "kl_per_completion_se": "nats per completion",
    "reward": "reward's own",
    "reward_se": "reward's own",
    "n": "samples",
    "iteration": "iterations",
    "completions_seen": "completions",
    "optimizer_steps": "steps",
}
HIDDEN = ("files",)  # digests of a rung's files


def metrics_of(run: Run) -> DataFrame:
    """A row an iteration, with units."""
    keys = dict.fromkeys(key for line in run.metrics for key in line)
    return framed(run.metrics, {key: metric.unit for key in keys if (metric := metric_of(key)) is not None})


def ladder_of(run: Run) -> DataFrame:
    """A row a rung, with units."""
    rows = (dataclasses.asdict(rung) for rung in run.rungs)
    return framed(({key: row[key] for key in row if key not in HIDDEN} for row in rows), RUNG_UNITS)


def samples_of(run: Run, rung: str | None = None) -> DataFrame:
    """A row a sample of one rung, or of all. Raises InputError for a rung that has none."""
    found = read_stored_samples(run)
    if rung is not None and rung not in found:
        expected = f"one of {', '.join(found) or 'none yet'}"
        raise InputError("rung", got=rung, expected=expected, fix="see `run.ladder`")
    chosen = {rung: found[rung]} if rung is not None else found
    rows = ({"rung": name, **dataclasses.asdict(row)} for name, rows in chosen.items() for row in rows)
    return framed(rows, {**UNITS, "kl_per_completion": "nats per completion"})
