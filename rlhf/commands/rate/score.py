"""`rlhf rate score`: unblind a complete packet and give the verdict with its interval."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rlhf.commands.command_line import parse
from rlhf.foundation.terminal import say

if TYPE_CHECKING:
    from rlhf.inspection.blind_verdict import Verdict
    from rlhf.inspection.human_ladder import HumanLadder
from rlhf.evaluation.rate_score import RateScoreConfig, rate_score


def main(argv: list[str]) -> None:
    """Parse, score, print the verdict."""
    config = parse(RateScoreConfig, argv, prog="rlhf rate score", description="The verdict of a blind rating.")
    verdict = rate_score.run(config)
    print(describe(verdict))
    say(f"written: {Path(config.output_dir) / 'verdict.json'}")


def describe(verdict: Verdict | HumanLadder) -> str:
    """The verdict in lines."""
    from rlhf.inspection.human_ladder import HumanLadder

    if not isinstance(verdict, HumanLadder):
        return "\n".join(verdict.statements())
    rungs = [
        f"{rung.name}  {rung.sqrt_kl**2:6.2f} nats  {rung.mean:.2f} "
        f"(95 % interval {rung.interval[0]:.2f} to {rung.interval[1]:.2f}, {rung.samples} samples)"
        for rung in verdict.rungs
    ]
    return "\n".join([*rungs, verdict.statement()])
