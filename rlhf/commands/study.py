"""`rlhf study`: a grid of options over a recipe, a run directory a cell, two tables and a page."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf.commands.command_line import parse
from rlhf.foundation.errors import Told
from rlhf.studies.config import StudyConfig
from rlhf.studies.study import study


def main(argv: Sequence[str]) -> None:
    """Parse, run, print what there is; exit status 2 where a cell failed."""
    done = study.run(parse(StudyConfig, argv, prog="rlhf study", description="Many runs over a grid of options."))
    print(done.summary())
    if done.failed:
        raise Told(2)
