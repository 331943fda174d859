"""`rlhf rate push RUN`: a blind packet of samples, into Label Studio or an offline page."""

from __future__ import annotations

from rlhf.commands.command_line import parse
from rlhf.commands.first_words import first_words
from rlhf.commands.next_step import next_step
from rlhf.evaluation.rate_push import RatePushConfig, rate_push
from rlhf.foundation.terminal import say


def main(argv: list[str]) -> None:
    """Parse, push, say where to rate."""
    config = parse(
        RatePushConfig, first_words(argv, "run"), prog="rlhf rate push", description="A blind packet of samples."
    )
    say("\n".join(rate_push.run(config)))
    say(next_step("rlhf rate pull", config, "output_dir", "server_dir"))
