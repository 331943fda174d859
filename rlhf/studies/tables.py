"""What a study found as two tidy tables: cells.csv, a row a cell, and rungs.csv, a row a rung; every option a column.

The same cells give the same bytes: nothing of when or how fast they were made stands in them (study.json has that).
Units of the columns are in tables.json beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf.foundation.files import read_json, write_json, write_text
from rlhf.inspection.estimates import Estimate
from rlhf.inspection.evaluation import Evaluation, RungEvaluation, course, read_evaluation
from rlhf.inspection.overoptimisation import Course, Onset, find_onset
from rlhf.inspection.overoptimisation_degree import Degree, overoptimisation_degree
from rlhf.inspection.scoring import PROXY
from rlhf.inspection.table_files import rows_as_csv
from rlhf.studies.plan import WITHOUT, Stage
from rlhf.studies.stages import is_done

OWN = {
    "cell": "name",
    "made": "whether it is finished",
    "seed": "-",
    "num_labels": "labels",
    "noise": "share of wrong labels",
    "misread": "pattern of texts that raters take for positive",
    "reward_model": "digest of what it was made from",
}
OF_CELLS = {
    "rungs": "rungs",
    "final_kl": "nats per completion",
    "final_kl_se": "nats per completion",
    "proxy_final": "proxy's own",
    "proxy_final_se": "proxy's own",
    "gold_start": "gold's own",
    "gold_start_se": "gold's own",
    "gold_final": "gold's own",
    "gold_final_se": "gold's own",
    "gold_highest": "gold's own, the highest rung's mean",
    "gold_highest_kl": "nats per completion",
    "onset_status": "onset, none_seen, not_resolved, too_few_rungs or constant, of the rungs before a collapse",
    "onset_kl": "nats per completion",
    "onset_kl_low": "nats per completion, of the 95 % interval",
    "onset_kl_high": "nats per completion, of the 95 % interval",
    "fall": "gold's own, from the onset to the last rung before a collapse",
    "fall_se": "gold's own",
    "overoptimisation_degree": "area between gold and proxy over area under gold, along root KL",
    "overoptimisation_degree_se": "the same, over samples",
    "collapsed_from_kl": "nats per completion, of the first rung that says one text or one template",
    "proxy_alpha": "proxy's own per root nat, of d(a - b log d)",
    "proxy_beta": "proxy's own per root nat",
    "gold_alpha": "gold's own per root nat, of d(a - b log d)",
    "gold_beta": "gold's own per root nat",
    "held_out_accuracy": "share, of the reward model on held-out labels",
}
OF_RUNGS = {
    "rung": "name",
    "kl": "nats per completion",
    "kl_se": "nats per completion",
    "sqrt_kl": "root of nats per completion",
    "proxy": "proxy's own",
    "proxy_se": "proxy's own",
    "gold": "gold's own",
    "gold_se": "gold's own",
    "n": "samples",
    "collapsed": "whether it says one text or one template",
    "distinct_2": "share of pairs of words",
    "top_completion_share": "share of the commonest completion",
    "length": "characters",
}
UNITS = OWN | OF_CELLS | OF_RUNGS
DEGREE = "overoptimisation_degree"
# A policy has collapsed where the commonest completion is more than half of all, or where distinct-2 is below such a
# share of the original's: it says one text, or one template, and gold is that text's luck from here on.
COLLAPSED, TEMPLATE = 0.5, 0.25


@dataclass(frozen=True, slots=True)
class Cell:
    """A finished cell with what was measured of it."""

    stage: Stage
    evaluation: Evaluation
    accuracy: float | None

    @property
    def gold(self) -> str:
        """The gold's name; a study has one."""
        return self.evaluation.golds[0]

    def course(self, reward: str | None = None) -> Course:
        """Of gold, or another reward, along the cell's ladder up to its collapse."""
        return course(self.rungs, self.evaluation.scores, reward or self.gold)

    def onset(self) -> Onset:
        """Where gold stops rising, of the rungs before a collapse."""
        return find_onset(self.gold, [rung.name for rung in self.rungs], [self.course()], self.course(PROXY))

    def degree(self) -> Degree | None:
        """Area between gold and proxy over area under gold; None where gold gained nothing."""
        return overoptimisation_degree(self.course(), self.course(PROXY))

    @property
    def rungs(self) -> list[RungEvaluation]:
        """Those before a collapse, the original at least."""
        first, every = self.collapsed_from, self.evaluation.rungs
        return [rung for rung in every if first is None or rung.kl < first] or every[:1]

    @property
    def collapsed_from(self) -> float | None:
        """KL of the first rung of a policy that says one text or one template, nats; None where none does."""
        return min((rung.kl for rung in self.evaluation.rungs if self.is_collapsed(rung)), default=None)

    def is_collapsed(self, rung: RungEvaluation) -> bool:
        """Whether its samples are one text for more than half, or a quarter as varied as the original's."""
        start, now = self.evaluation.rungs[0].distinct_2, rung.distinct_2
        return rung.top_completion_share > COLLAPSED or (
            start is not None and now is not None and now < TEMPLATE * start
        )


def read_cells(root: Path, stages: Sequence[Stage]) -> list[Cell]:
    """The finished cells, in the order of the plan."""
    cells = (stage for stage in stages if stage.kind == "cell" and is_done(root, stage))
    return [_cell(root, stage) for stage in cells]


def _cell(root: Path, stage: Stage) -> Cell:
    report = read_json(root / stage.needs["reward"].place / "reward_model.json")
    accuracy = (report.get("held_out") or {}).get("accuracy") or {}
    return Cell(stage, read_evaluation(root / stage.place / "evaluation.json"), accuracy.get("share"))


def write_tables(root: Path, stages: Sequence[Stage], cells: Sequence[Cell]) -> None:
    """cells.csv, rungs.csv and tables.json, each atomically."""
    found = {cell.stage.place: cell for cell in cells}
    rows = [cell_row(stage, found.get(stage.place)) for stage in stages if stage.kind == "cell"]
    rungs = [row for cell in cells for row in rung_rows(cell)]
    write_text(root / "cells.csv", rows_as_csv(rows))
    write_text(root / "rungs.csv", rows_as_csv(rungs))
    write_json(root / "tables.json", {name: unit_of(name) for row in (*rows[:1], *rungs[:1]) for name in row})


def unit_of(column: str) -> str:
    """Of a column of either table."""
    stage = column.partition(".")[0]
    return UNITS.get(column, f"as the option of `rlhf {stage if stage in ('reward', 'align') else 'ppo'}`")


def options_of(stage: Stage) -> dict[str, Any]:
    """Every option that a cell's numbers depend on: what varies first, then labels, reward model and PPO in whole."""
    labels = stage.needs["reward"].needs["labels"].resolved
    varied = {
        **stage.values,
        "num_labels": labels["number"],
        "noise": labels["noise"],
        "misread": labels.get("misread"),
    }
    of = {"reward": stage.needs["reward"].resolved, "align" if "method" in stage.options else "ppo": stage.resolved}
    every = {f"{kind}.{name}": x for kind, kept in of.items() for name, x in kept.items() if name not in WITHOUT}
    return varied | {name: value for name, value in every.items() if value not in ("-", ["-"])} | stage.values


def cell_row(stage: Stage, cell: Cell | None) -> dict[str, Any]:
    """One cell; what was not measured is empty."""
    row = {"cell": stage.name, "made": cell is not None, **options_of(stage), "reward_model": stage.needs["reward"].key}
    measured = _measured(cell) if cell else {}
    return row | {name: measured.get(name) for name in OF_CELLS}


def _measured(cell: Cell) -> dict[str, Any]:
    evaluation, gold, onset = cell.evaluation, cell.gold, cell.onset()
    rungs = evaluation.rungs
    scored = [rung for rung in rungs if rung.gold[gold] is not None]
    best = max(scored, key=lambda rung: _mean(rung.gold[gold]) or 0.0)
    told: dict[str, Any] = {"rungs": len(rungs), "final_kl": rungs[-1].kl, "final_kl_se": rungs[-1].kl_se}
    told |= _both("proxy_final", rungs[-1].proxy) | _both("gold_start", rungs[0].gold[gold])
    told |= _both("gold_final", rungs[-1].gold[gold])
    told |= {"gold_highest": _mean(best.gold[gold]), "gold_highest_kl": best.kl, "onset_status": onset.status}
    low, high = onset.interval
    told |= {"onset_kl": onset.d**2, "onset_kl_low": low**2, "onset_kl_high": high**2}
    told |= {"fall": onset.fall, "fall_se": onset.fall_se, "collapsed_from_kl": cell.collapsed_from}
    degree = cell.degree()
    told |= {DEGREE: degree and degree.value, f"{DEGREE}_se": degree and degree.se}
    for name, reward in (("proxy", "proxy"), ("gold", gold)):
        fit = evaluation.ppo_fits.get(reward)
        told |= {f"{name}_alpha": fit.alpha if fit else None, f"{name}_beta": fit.beta if fit else None}
    return told | {"held_out_accuracy": cell.accuracy}


def rung_rows(cell: Cell) -> list[dict[str, Any]]:
    """One row a rung of a cell."""
    return [
        {
            "cell": cell.stage.name, **options_of(cell.stage), "reward_model": cell.stage.needs["reward"].key,
            "rung": rung.name, "kl": rung.kl, "kl_se": rung.kl_se, "sqrt_kl": rung.sqrt_kl,
            **_both("proxy", rung.proxy), **_both("gold", rung.gold[cell.gold]), "n": rung.proxy and rung.proxy.n,
            "collapsed": cell.is_collapsed(rung), "distinct_2": rung.distinct_2,
            "top_completion_share": rung.top_completion_share, "length": _mean(rung.length),
        }
        for rung in cell.evaluation.rungs
    ]  # fmt: skip


def _mean(estimate: Estimate | None) -> float | None:
    return estimate.mean if estimate else None


def _both(name: str, estimate: Estimate | None) -> dict[str, float | None]:
    return {name: _mean(estimate), f"{name}_se": estimate.se if estimate else None}
