"""`rlhf label status`: how many are labelled, by whom, how fast, how far raters agree, and what to look at again."""

from __future__ import annotations

from labeling.steps.status import StatusConfig, status
from rlhf.commands.command_line import parse


def main(argv: list[str]) -> None:
    """Parse the options and print the status."""
    config = parse(StatusConfig, argv, prog="rlhf label status", description=(__doc__ or "").split(": ", 1)[1])
    print("\n".join(status.run(config).lines))
