"""`rlhf demo`: the whole loop in one command, from a corpus to a report, with a simulated annotator."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf.commands.command_line import parse
from rlhf.whole_loop.demo import DemoConfig, demo


def main(argv: Sequence[str]) -> None:
    """Parse, run, print the summary."""
    config = parse(DemoConfig, argv, prog="rlhf demo", description="The whole loop, from a corpus to a report.")
    print(demo.run(config).summary())
