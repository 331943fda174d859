"""`rlhf rate score`: unblind a complete packet and give the verdict with its interval."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlhf.foundation.options import Options, option
from rlhf.foundation.steps import step

if TYPE_CHECKING:
    from rlhf.inspection.blind_verdict import Verdict
    from rlhf.inspection.human_ladder import HumanLadder


@dataclass
class RateScoreConfig(Options):
    """Options of `rlhf rate score`."""

    output_dir: str = option("rating", help="folder of the study; verdict.json is written there")
    partial: bool = option(False, help="unblind though ratings are missing; the verdict says so")


@step(RateScoreConfig)
def rate_score(config: RateScoreConfig) -> Verdict | HumanLadder:
    """Unblind a complete packet: the verdict with its interval, kept in the run too. Raises InputError."""
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
