"""`rlhf label pull`: labels come back from Label Studio, every annotation counted by what became of it."""

from __future__ import annotations

from pathlib import Path

from labeling.folder import Folder
from labeling.steps.pull import PullConfig, pull
from labeling.tally import listed_counts, tally
from rlhf.commands.command_line import parse
from rlhf.commands.next_step import next_step
from rlhf.foundation.terminal import say, shown


def main(argv: list[str]) -> None:
    """Parse the options, pull, and say what came back and what did not."""
    config = parse(PullConfig, argv, prog="rlhf label pull", description=(__doc__ or "").split(": ", 1)[1])
    pulled = pull.run(config)
    kind = Folder(Path(config.output_dir)).need_plan().screen.kind
    name = "comparisons.jsonl" if kind == "comparison" else "labels.jsonl"
    records = pulled.labels or pulled.comparisons
    print(f"{tally(records)} -> {shown(Path(config.output_dir) / name)}")
    print(f"annotations: {pulled.annotations}; {listed_counts(pulled.counts) or 'none'}")
    if not records:
        print("nobody has labelled yet: run the same command later")
    else:
        say(next_step("rlhf label status", config, "output_dir"))
