"""`rlhf label annotate`: annotators by rule answer as users of the real Label Studio; nobody need be there."""

from __future__ import annotations

from labeling.steps.annotate import AnnotateConfig, annotate
from rlhf.commands.command_line import parse
from rlhf.commands.next_step import next_step
from rlhf.foundation.terminal import say, shown


def main(argv: list[str]) -> None:
    """Parse the options, answer, and print how many."""
    config = parse(AnnotateConfig, argv, prog="rlhf label annotate", description=(__doc__ or "").split(": ", 1)[1])
    for rater, count in annotate.run(config).items():
        say(f"{shown(rater) or 'simulated'}: {count} answers")
    say(next_step("rlhf label pull", config, "output_dir", "server_dir"))
