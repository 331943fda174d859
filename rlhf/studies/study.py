"""`rlhf study`: a grid of options over a recipe, a run directory a cell, two tables and a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_object
from rlhf.foundation.locks import made_for, sole_writer
from rlhf.foundation.steps import step
from rlhf.studies.config import StudyConfig
from rlhf.studies.plan import KINDS, Stage, plan
from rlhf.studies.running import Record, duration, run_stages
from rlhf.studies.stages import is_done

if TYPE_CHECKING:
    from pandas import DataFrame

IDLE = ("quiet", "jobs", "dry_run", "group", "output_dir")


@dataclass
class Study:
    """A study's directory, its stages, and what failed, by place; `page` once there is a finished cell."""

    root: Path
    stages: list[Stage]
    failed: dict[str, str] = field(default_factory=dict)
    page: Path | None = None
    estimate: str = ""

    @property
    def cells(self) -> DataFrame:
        """cells.csv as a frame."""
        return self._table("cells.csv")

    @property
    def rungs(self) -> DataFrame:
        """rungs.csv as a frame."""
        return self._table("rungs.csv")

    def _table(self, name: str) -> DataFrame:
        import pandas

        return pandas.read_csv(self.root / name)

    def summary(self) -> str:
        """What a person reads at the end."""
        cells = [stage for stage in self.stages if stage.kind == "cell"]
        done = sum(is_done(self.root, stage) for stage in cells)
        lines = [f"FAILED: {place}: {why}" for place, why in self.failed.items()]
        lines += [f"{done} of {len(cells)} cells done"]
        if self.failed:
            lines.append("the same command does what failed again, and nothing else")
        return "\n".join([*lines, *([f"page: {self.page}"] if self.page else []), *self.estimate.splitlines()])


@step(StudyConfig)
def study(config: StudyConfig) -> Study:
    """Runs over a grid of options: where overoptimisation starts, and what moves it; goes on where it stopped.

    A stage or cell that is done stays; one whose options changed is made anew beside the old. Raises InputError;
    KeyboardInterrupt says how to go on.
    """
    root, stages = Path(config.output_dir), plan(config)
    record = Record.of(root / "study.json", {k: v for k, v in config.recorded().items() if k not in IDLE})
    if config.dry_run:
        return Study(root, stages, estimate=estimate(root, stages, record, config))
    require_own(root)
    try:
        with sole_writer(root), made_for(root):
            run_stages(root, stages, record, jobs=config.jobs, quiet=config.quiet)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command goes on where it stopped") from None
    finally:
        page = write_results(root, stages, config)
    return Study(root, stages, record.failed, page)


def require_own(root: Path) -> None:
    """Raise InputError when the directory holds something else."""
    there = root.is_dir() and any(not path.name.startswith(".") for path in root.iterdir())
    if there and not (root / "shared").is_dir():
        got = f"{root}, not empty and without a study"
        raise InputError("--output_dir", got=got, expected="a new directory, or a study's", fix="choose another one")


def write_results(root: Path, stages: Sequence[Stage], config: StudyConfig) -> Path | None:
    """Tables, page and figures of the cells that are done; None where none is."""
    from rlhf.studies.groups import groups_of
    from rlhf.studies.page import build_page, study_charts
    from rlhf.studies.tables import read_cells, write_tables

    cells = read_cells(root, stages)
    if not cells:
        return None
    write_tables(root, stages, cells)
    groups = groups_of(cells, config.group or [factor.name for factor in config.factors()])
    missing = [stage.name for stage in stages if stage.kind == "cell" and not is_done(root, stage)]
    if find_spec("matplotlib") is not None:
        _draw(root, study_charts(groups))
    return build_page(root, groups, missing)


def _draw(root: Path, charts: dict[str, Any]) -> None:
    """figures/NAME.svg and .pdf."""
    from rlhf.inspection.figure_files import planned_figures

    for format in ("svg", "pdf"):
        planned_figures(charts, root / "figures", format, of=["cells.csv", "rungs.csv"]).write()


def estimate(root: Path, stages: Sequence[Stage], record: Record, config: StudyConfig) -> str:
    """The cells, what is made once for them, and about how long what is not done takes."""
    todo = [stage for stage in stages if not is_done(root, stage)]
    counts = Counter(stage.kind for stage in todo)
    lines = [f"  {stage.name}{'' if stage in todo else '  (done)'}" for stage in stages if stage.kind == "cell"]
    of = ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind]) or "nothing"
    known = "its own stages so far" if record.seconds else "the demo's recipes on two cores"
    about = duration(record.left(todo, config.jobs))
    return "\n".join([*lines, f"to do: {of}; about {about} with --jobs {config.jobs} (from the seconds of {known})"])


def recorded(root: Path) -> dict[str, Any]:
    """What study.json says. Raises InputError."""
    return read_object(root / "study.json", "config", "seconds")
