"""`rlhf inspect RUN [RUN2 ...]`: one self-contained HTML file of runs, or of a reward model, that opens offline."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_text
from rlhf.foundation.options import Options, option
from rlhf.foundation.outputs import check_own, is_page
from rlhf.foundation.steps import step
from rlhf.inspection.opened_run import OpenedRun

if TYPE_CHECKING:
    from rlhf.whole_loop.verification import Verification


@dataclass
class InspectConfig(Options):
    """Options of `rlhf inspect`."""

    runs: list[str | OpenedRun] = option(
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
    output_path: str | None = option(None, help="HTML file to write; default RUN/report.html")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.runs:
            raise InputError(
                "rlhf inspect",
                got="no run",
                expected="one run directory or more",
                fix="give the --output_dir of `rlhf ppo`",
            )


@dataclass(frozen=True)
class Inspected:
    """The report that was written, or what was verified, run by run; a notebook shows the report."""

    report: Path | None = None
    verified: Sequence[Verification] = ()

    def _repr_html_(self) -> str:
        if self.report is None:
            return f"<pre>{html.escape(chr(10).join(line for one in self.verified for line in one.lines()))}</pre>"
        page = html.escape(read_text(self.report), quote=True)
        return f'<iframe srcdoc="{page}" style="width: 100%; height: 800px; border: 0"></iframe>'


@step(InspectConfig)
def inspect(config: InspectConfig) -> Inspected:
    """One self-contained HTML file of runs or of a reward model; with `verify` every file against its digest instead.

    Damage that is verified stands in the result. Raises InputError when a directory is no run and no reward model.
    """
    if config.verify:
        from rlhf.whole_loop.verification import verify

        return Inspected(verified=[verify(Path(name)) for name in config.runs])
    return Inspected(_report(config))


def _report(config: InspectConfig) -> Path:
    first, *others = (Path(name) for name in config.runs)
    output = Path(config.output_path) if config.output_path else None
    check_own("--output_path", output or first / "report.html", is_page)
    if (first / "reward_model.json").is_file() and not others:
        from rlhf.inspection.reward_page import build_reward_page

        return build_reward_page(first, output, probe=Path(config.probe) if config.probe else None)
    if config.probe:
        raise InputError("--probe", got=config.probe, expected="it beside a reward model", fix="leave it out for runs")
    from rlhf.inspection.report import build_report
    from rlhf.runs.integrity import RECORDS, read_unchanged

    notices = []
    for run in (first, *others):
        wanted = (*RECORDS, "metrics.jsonl", "samples", "evaluation.json")
        _, changed = read_unchanged(run, wanted, accept=config.accept_changes)
        notices += [f"{run.name}: {one}, which was accepted." for one in changed]
    return build_report(first, output, others=others, notices=notices)
