"""`rlhf label simulate`: annotators that follow the gold rule, except for an exact share of wrong answers."""

from __future__ import annotations

from labeling.steps.simulate import SimulateConfig, simulate
from rlhf.commands.command_line import parse
from rlhf.foundation.terminal import shown


def main(argv: list[str]) -> None:
    """Parse the options, simulate, and print what was written."""
    config = parse(SimulateConfig, argv, prog="rlhf label simulate", description=(__doc__ or "").split(": ", 1)[1])
    print(f"{simulate.run(config).summary} -> {shown(config.output)}")
