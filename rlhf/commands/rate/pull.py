"""`rlhf rate pull`: ratings come back from Label Studio or from the files of an offline page, still blind."""

from __future__ import annotations

from pathlib import Path

from rlhf.commands.command_line import parse
from rlhf.evaluation.rate_pull import RatePullConfig, rate_pull
from rlhf.foundation.terminal import say


def main(argv: list[str]) -> None:
    """Parse, pull, say what is still missing."""
    config = parse(RatePullConfig, argv, prog="rlhf rate pull", description="Fetch the ratings of a blind packet.")
    from labeling.tally import listed_counts, print_notes

    returned, missing = rate_pull.run(config)
    say(f"{len(returned.ratings)} ratings -> {Path(config.output_dir) / 'ratings.jsonl'} (blind)")
    say(f"answers: {returned.annotations}; {listed_counts(returned.counts) or 'none'}")
    print_notes(returned.notes)
    if not returned.ratings:
        print("nobody has rated yet: run the same command later")
    elif missing:
        say(f"{missing} are missing: run the same command later")
    else:
        say(f"complete; then: rlhf rate score --output_dir {config.output_dir}")
