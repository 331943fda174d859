"""`rlhf inspect RUN [RUN2 ...]`: an HTML report of runs, or of a reward model, that opens offline; tables, figures."""

from __future__ import annotations

from pathlib import Path

from rlhf.commands.command_line import parse
from rlhf.commands.first_words import first_words
from rlhf.foundation.terminal import say
from rlhf.whole_loop.inspect_runs import InspectConfig, Inspected, inspect


def print_verified(config: InspectConfig, found: Inspected) -> None:
    """Print what was verified. Raises InputError naming the first damage."""
    from rlhf.whole_loop.verification import require_whole

    for name, one in zip(config.runs, found.verified, strict=True):
        print("\n".join([*([f"{name}:"] if len(found.verified) > 1 else []), *one.lines()]))
    for name, one in zip(config.runs, found.verified, strict=True):
        require_whole(one, Path(name))


def main(argv: list[str]) -> None:
    """Parse the command line, do what it asks, print what was written."""
    if argv[:1] == ["--verify"] and len(argv) > 1 and argv[1] not in ("true", "false") and not argv[1].startswith("-"):
        argv = [*argv[1:], "--verify"]  # the run is no value of the option
    config = parse(InspectConfig, first_words(argv, "runs"), prog="rlhf inspect", description=__doc__ or "")
    found = inspect.run(config)
    if config.verify:
        return print_verified(config, found)
    if found.report is not None:
        say(f"report: {found.report} ({found.report.stat().st_size / 1e6:.1f} MB, opens offline)")
    if found.tables:
        say(f"tables: {len(found.tables)} files in {config.tables}, units in {config.tables}/tables.json")
    if found.figures:
        captions = f"{config.figures}/figures-{config.format}.json"
        say(f"figures: {len(found.figures)} files in {config.figures}, titles and captions in {captions}")
