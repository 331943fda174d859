"""`rlhf rate score`: unblind a complete packet and give the verdict with its interval."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlhf.foundation.terminal import say
from rlhf.option_fields import Options
from rlhf.options import option, parse

if TYPE_CHECKING:
    from rlhf.inspection.blind_verdict import Verdict
    from rlhf.inspection.human_ladder import HumanLadder


@dataclass
class RateScoreConfig(Options):
    """Options of `rlhf rate score`."""

    output_dir: str = option("rating", help="folder of the study; verdict.json is written there")
    partial: bool = option(False, help="unblind though ratings are missing; the verdict says so")


def run(config: RateScoreConfig) -> Verdict | HumanLadder:
    """Score the study; its verdict is kept in the run too, for the run's report. Raises InputError."""
    from rlhf.foundation.digests import write_sealed
    from rlhf.foundation.files import read_json
    from rlhf.inspection.human_ladder import HumanLadder
    from rlhf.inspection.rating_packet import keep_verdict, read_study, score_study

    folder = Path(config.output_dir)
    verdict, study = score_study(folder, partial=config.partial), read_study(folder)
    run_dir = study.run_directory(folder)
    if not run_dir.is_dir():
        print(f"rlhf: {run_dir} is not found, so the run's report will not show this verdict", file=sys.stderr)
        return verdict
    if isinstance(verdict, HumanLadder):
        write_sealed(run_dir / "human_ladder.json", {"draw": study.draw, **read_json(folder / "verdict.json")})
    else:
        keep_verdict(run_dir, folder, verdict)
    return verdict


def main(argv: list[str]) -> None:
    """Parse, score, print the verdict."""
    config = parse(RateScoreConfig, argv, prog="rlhf rate score", description="The verdict of a blind rating.")
    verdict = run(config)
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
