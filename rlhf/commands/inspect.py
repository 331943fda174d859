"""`rlhf inspect RUN [RUN2 ...]`: one self-contained HTML file of runs, or of a reward model, that opens offline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlhf.commands.first_words import first_words
from rlhf.commands.outputs import check_own, is_page
from rlhf.foundation.errors import InputError
from rlhf.foundation.terminal import say
from rlhf.option_fields import Options
from rlhf.options import option, parse

if TYPE_CHECKING:
    from rlhf.inspection.verification import Verification


@dataclass
class InspectConfig(Options):
    """Options of `rlhf inspect`."""

    runs: list[str] = option(
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


def run(config: InspectConfig) -> Path:
    """Write the report and return its path. Raises InputError when a directory is no run and no reward model."""
    first, *others = (Path(name) for name in config.runs)
    output = Path(config.output_path) if config.output_path else None
    check_own("--output_path", output or first / "report.html", is_page)
    if (first / "reward_model.json").is_file() and not others:
        from rlhf.inspection.reward_page import build_reward_page

        return build_reward_page(first, output, probe=Path(config.probe) if config.probe else None)
    if config.probe:
        raise InputError("--probe", got=config.probe, expected="it beside a reward model", fix="leave it out for runs")
    from rlhf.inspection.integrity import RECORDS, read_unchanged
    from rlhf.inspection.report import build_report

    notices = []
    for run in (first, *others):
        wanted = (*RECORDS, "metrics.jsonl", "samples", "evaluation.json")
        _, changed = read_unchanged(run, wanted, accept=config.accept_changes)
        notices += [f"{run.name}: {one}, which was accepted." for one in changed]
    return build_report(first, output, others=others, notices=notices)


def run_verify(config: InspectConfig) -> list[Verification]:
    """Verify every directory; damage stands in the result. Raises InputError for one that is no recorded work."""
    from rlhf.inspection.verification import verify

    return [verify(Path(name)) for name in config.runs]


def print_verified(config: InspectConfig) -> None:
    """Print what was verified. Raises InputError naming the first damage."""
    from rlhf.inspection.verification import require_whole

    verified = run_verify(config)
    for name, found in zip(config.runs, verified, strict=True):
        print("\n".join([*([f"{name}:"] if len(verified) > 1 else []), *found.lines()]))
    for name, found in zip(config.runs, verified, strict=True):
        require_whole(found, Path(name))


def main(argv: list[str]) -> None:
    """Parse the command line, write the report, print its path."""
    if argv[:1] == ["--verify"] and len(argv) > 1 and argv[1] not in ("true", "false") and not argv[1].startswith("-"):
        argv = [*argv[1:], "--verify"]  # the run is no value of the option
    config = parse(InspectConfig, first_words(argv, "runs"), prog="rlhf inspect", description=__doc__ or "")
    if config.verify:
        print_verified(config)
        return
    path = run(config)
    say(f"report: {path} ({path.stat().st_size / 1e6:.1f} MB, opens offline)")
