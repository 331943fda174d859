"""`rlhf rate score`: unblind a complete packet and give the verdict with its interval."""

from __future__ import annotations

from pathlib import Path

from rlhf.commands.command_line import parse
from rlhf.evaluation.rate_score import RateScoreConfig, rate_score
from rlhf.foundation.terminal import say


def main(argv: list[str]) -> None:
    """Parse, score, print the verdict."""
    config = parse(RateScoreConfig, argv, prog="rlhf rate score", description="The verdict of a blind rating.")
    verdict = rate_score.run(config)
    print("\n".join(verdict.statements()))
    say(f"written: {Path(config.output_dir) / 'verdict.json'}")
