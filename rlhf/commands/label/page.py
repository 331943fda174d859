"""`rlhf label page`: one offline HTML file to label in, and the labels out of the files that people send back."""

from __future__ import annotations

from pathlib import Path

from labeling.returned import Returned
from labeling.steps.page import PageConfig, page
from labeling.tally import listed_counts, print_notes, tally
from rlhf.commands.command_line import parse
from rlhf.foundation.terminal import say, shown


def main(argv: list[str]) -> None:
    """Parse the options, make the page or collect answers, and say what happened."""
    config = parse(PageConfig, argv, prog="rlhf label page", description=(__doc__ or "").split(": ", 1)[1])
    done = page.run(config)
    if done.returned is not None:
        return print_returned(Path(config.output_dir), done.returned)
    say(f"{done.tasks} tasks -> {shown(done.path)} (opens without a network)")
    if said := listed_counts(done.cleaning):
        say(f"cleaned: {said}")
    say(f"then: rlhf label page --output_dir {config.output_dir} --answers answers-NAME.json")


def print_returned(folder: Path, returned: Returned) -> None:
    """What came back, and what became of every answer."""
    name = "comparisons.jsonl" if returned.comparisons else "labels.jsonl"
    say(f"{tally(returned.labels or returned.comparisons)} -> {shown(folder / name)}")
    say(f"answers: {returned.annotations}; {listed_counts(returned.counts) or 'none'}")
    print_notes(returned.notes)
