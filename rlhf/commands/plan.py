"""`rlhf plan`: what a run would take of a device's memory, before anyone rents it."""

from __future__ import annotations

from rlhf.commands.command_line import parse
from rlhf.planning.config import PlanConfig
from rlhf.planning.plan import plan


def main(argv: list[str]) -> None:
    """Parse, plan, print."""
    print(plan.run(parse(PlanConfig, argv, prog="rlhf plan", description=__doc__ or "")).text)
