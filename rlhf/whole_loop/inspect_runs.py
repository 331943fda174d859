"""`rlhf inspect RUN [RUN2 ...]`: an HTML report of runs, or of a reward model, that opens offline; tables, figures."""

from __future__ import annotations

import html
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_text
from rlhf.foundation.options import Options, Several, option
from rlhf.foundation.outputs import OwnFiles, check_own, is_page
from rlhf.foundation.steps import step
from rlhf.foundation.terminal import say
from rlhf.inspection.opened_run import OpenedRun, open_run
from rlhf.inspection.print_figure import Format

if TYPE_CHECKING:
    from rlhf.whole_loop.verification import Verification


@dataclass
class InspectConfig(Options):
    """Options of `rlhf inspect`."""

    NEEDS: ClassVar[Mapping[str, str]] = {"format": "figures", "port": "watch"}
    NOT_WITH: ClassVar[Mapping[str, str]] = {
        "probe": "verify watch",
        "accept_changes": "verify",
        "output_path": "verify",
        "tables": "verify watch",
        "figures": "verify watch",
        "watch": "verify",
    }

    runs: Several[str | OpenedRun] = option(
        [], help="run directories of `rlhf ppo`; also as first words: rlhf inspect RUN [RUN2 ...]. Later ones are "
        "drawn over the first. Or one directory of `rlhf reward`"
    )  # fmt: skip
    probe: str | None = option(None, help="with a reward model: directory of `rlhf probe`, whose findings are shown")
    verify: bool = option(
        False, help="write no report: re-read every file of the run (or demo, loop, reward model, model) against the "
        "digest that was taken when it was written, and look for its inputs"
    )  # fmt: skip
    accept_changes: bool = option(
        False, help="report though files of the run changed since they were written; the report says so"
    )
    output_path: str | None = option(
        None, help="HTML file to write; default RUN/report.html, or none where tables or figures are asked for"
    )  # fmt: skip
    tables: str | None = option(
        None, help="directory for metrics, ladder, samples and, where evaluated, the evaluation as CSV and Parquet, "
        "with units in tables.json; of a reward model what its report says"
    )  # fmt: skip
    figures: str | None = option(
        None, help="directory for every chart drawn for a paper, one column wide (the extra `figures`: matplotlib)"
    )  # fmt: skip
    format: Format = option("svg", help="of the figures")
    watch: bool = option(
        False, help="serve the report on 127.0.0.1 while the run goes on, made anew as it grows, with the time left; "
        "the report is written when the run has ended"
    )  # fmt: skip
    port: int = option(0, help="port of --watch, 1024 to 65535; 0 takes a free one")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.runs:
            raise InputError(
                "rlhf inspect",
                got="no run",
                expected="one run directory or more",
                fix="give the --output_dir of `rlhf ppo`",
            )
        for name in ("tables", "figures"):
            if getattr(self, name) == "":
                raise InputError(f"--{name}", got="an empty name", expected="a directory", fix="name one")
        if self.port and not 1024 <= self.port <= 65535:
            raise InputError("--port", got=self.port, expected="0 or 1024 to 65535", fix="leave it out for a free port")
        if self.probe and not self.writes_report:
            fix = "leave it out, or give --output_path too"
            raise InputError("--probe", got="it without a report", expected="a report that shows it", fix=fix)

    @property
    def writes_report(self) -> bool:
        """Whether a page is written, which tables and figures stand in for."""
        return not self.verify and (self.output_path is not None or (self.tables is None and self.figures is None))


@dataclass(frozen=True)
class Inspected:
    """The report, tables and figures that were written, or what was verified, run by run; a notebook shows the report.

    Paths of tables and figures are those of the files, without the records beside them.
    """

    report: Path | None = None
    verified: Sequence[Verification] = ()
    tables: Sequence[Path] = ()
    figures: Sequence[Path] = ()

    def _repr_html_(self) -> str:
        if self.report is None:
            lines = [line for one in self.verified for line in one.lines()]
            lines += [str(path) for path in (*self.tables, *self.figures)]
            return f"<pre>{html.escape(chr(10).join(lines))}</pre>"
        page = html.escape(read_text(self.report), quote=True)
        return f'<iframe srcdoc="{page}" style="width: 100%; height: 800px; border: 0"></iframe>'


@step(InspectConfig)
def inspect(config: InspectConfig) -> Inspected:
    """A page of runs or of a reward model, tables, figures; with `watch` the page of a run that goes on, until it ends.

    With `verify` every file is read against its digest instead, and damage stands in the result. Raises InputError when
    a directory is no run and no reward model, and before anything is written where another file stands in the way.
    """
    if config.verify:
        from rlhf.whole_loop.verification import verify

        return Inspected(verified=[verify(Path(name)) for name in config.runs])
    runs = [OpenedRun(Path(name)) for name in config.runs]
    is_reward = len(runs) == 1 and (runs[0].directory / "reward_model.json").is_file()
    output = Path(config.output_path) if config.output_path else runs[0].directory / "report.html"
    if config.writes_report:
        check_own("--output_path", output, is_page)
    if config.probe and not is_reward:
        raise InputError("--probe", got=config.probe, expected="it beside a reward model", fix="leave it out for runs")
    if config.watch and not _watched(config, runs, is_reward):
        return Inspected()
    notices = [] if is_reward else _changes(runs, accept=config.accept_changes)
    tables = _tables(runs, is_reward, Path(config.tables)) if config.tables is not None else None
    figures = _figures(config, runs, is_reward, Path(config.figures)) if config.figures is not None else None
    return Inspected(
        report=_report(config, runs, is_reward, output, notices) if config.writes_report else None,
        tables=tables.write() if tables else (),
        figures=figures.write() if figures else (),
    )


def _watched(config: InspectConfig, runs: Sequence[OpenedRun], is_reward: bool) -> bool:
    """Serve the report until every run has ended; False when Ctrl-C came first."""
    if is_reward:
        raise InputError("--watch", got="a reward model", expected="a run that goes on", fix="leave --watch out")
    from rlhf.inspection.live_server import watch

    for run in runs:
        open_run(run)
    return watch([run.directory for run in runs], config.port, tell=_told, quiet=config.quiet)


def _told(line: str) -> None:
    """At once, also into a file or a pipe."""
    say(line)
    sys.stdout.flush()


def _changes(runs: Sequence[OpenedRun], *, accept: bool) -> list[str]:
    """What was changed since it was written and is to be accepted, in words. Raises InputError for what is not."""
    from rlhf.runs.integrity import RECORDS, read_unchanged

    told = []
    for run in runs:
        wanted = (*RECORDS, "metrics.jsonl", "samples", "evaluation.json")
        _, changed = read_unchanged(run.directory, wanted, accept=accept)
        told += [f"{run.name}: {one}, which was accepted." for one in changed]
    return told


def _tables(runs: Sequence[OpenedRun], is_reward: bool, directory: Path) -> OwnFiles:
    from rlhf.inspection.table_files import planned_report, planned_tables

    if not is_reward:
        return planned_tables([run.directory for run in runs], directory)
    from rewards.reward_file import read_report

    return planned_report(read_report(runs[0].directory), directory, of=str(runs[0].directory))


def _figures(config: InspectConfig, runs: Sequence[OpenedRun], is_reward: bool, directory: Path) -> OwnFiles:
    from rlhf.inspection.charts import named_charts
    from rlhf.inspection.figure_files import planned_figures
    from rlhf.inspection.reward_page import reward_charts

    paths = [run.directory for run in runs]
    charts = reward_charts(paths[0]) if is_reward else named_charts(*paths)
    return planned_figures(charts, directory, config.format, of=[str(path) for path in paths])


def _report(
    config: InspectConfig, runs: Sequence[OpenedRun], is_reward: bool, output: Path, notices: Sequence[str]
) -> Path:
    first, *others = (run.directory for run in runs)
    if is_reward:
        from rlhf.inspection.reward_page import build_reward_page

        return build_reward_page(first, output, probe=Path(config.probe) if config.probe else None)
    from rlhf.inspection.report import build_report

    return build_report(first, output, others=others, notices=notices)
