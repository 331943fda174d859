"""`rlhf rate plan`: the effect that a blind rating can show, and the samples it needs, before anything goes out."""

from __future__ import annotations

from rlhf.commands.command_line import parse
from rlhf.evaluation.rate_plan import RatePlanConfig, rate_plan


def main(argv: list[str]) -> None:
    """Parse, plan, print."""
    config = parse(RatePlanConfig, argv, prog="rlhf rate plan", description="Power of a blind rating.")
    print("\n".join(rate_plan.run(config)))
