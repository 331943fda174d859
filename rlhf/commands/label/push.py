"""`rlhf label push`: samples become tasks of Label Studio, each exactly once, whatever breaks on the way."""

from __future__ import annotations

from labeling.steps.push import PushConfig, push
from labeling.tally import listed_counts
from rlhf.commands.command_line import parse
from rlhf.commands.next_step import next_step
from rlhf.foundation.terminal import say, shown


def main(argv: list[str]) -> None:
    """Parse the options, push, and say what was sent, changed and refused."""
    config = parse(PushConfig, argv, prog="rlhf label push", description=(__doc__ or "").split(": ", 1)[1])
    summary = push.run(config)
    for rater, one in summary.pushed.items():
        extra = listed_counts(
            {
                "twins removed": one.twins_removed,
                "twins left, both labelled": one.twins_labelled,
                "imports without an answer": one.uncertain_imports,
            }
        )
        name = f"{shown(rater)}: " if rater else ""
        say(f"{name}{one.created} tasks sent, {one.present} were there{'; ' + extra if extra else ''}")
    if said := listed_counts(summary.cleaning):
        say(f"cleaned: {said}")
    print("label at")
    say("\n".join(f"  {line}" for line in summary.addresses))
    say(next_step("rlhf label pull", config, "output_dir", "server_dir"))
