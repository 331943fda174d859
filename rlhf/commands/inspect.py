"""`rlhf inspect RUN [RUN2 ...]`: one self-contained HTML file of runs, or of a reward model, that opens offline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rlhf.commands.first_words import first_words
from rlhf.commands.outputs import check_own, is_page
from rlhf.foundation.errors import InputError
from rlhf.foundation.terminal import say
from rlhf.option_fields import Options
from rlhf.options import option, parse


@dataclass
class InspectConfig(Options):
    """Options of `rlhf inspect`."""

    runs: list[str] = option(
        [], help="run directories of `rlhf ppo`; also as first words: rlhf inspect RUN [RUN2 ...]. Later ones are "
        "drawn over the first. Or one directory of `rlhf reward`"
    )  # fmt: skip
    probe: str | None = option(None, help="with a reward model: directory of `rlhf probe`, whose findings are shown")
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
    from rlhf.inspection.report import build_report

    return build_report(first, output, others=others)


def main(argv: list[str]) -> None:
    """Parse the command line, write the report, print its path."""
    config = parse(InspectConfig, first_words(argv, "runs"), prog="rlhf inspect", description=__doc__ or "")
    path = run(config)
    say(f"report: {path} ({path.stat().st_size / 1e6:.1f} MB, opens offline)")
