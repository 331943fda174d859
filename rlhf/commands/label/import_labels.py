"""`rlhf label import`: CSV, JSON lines or a Label Studio export become labels.jsonl or comparisons.jsonl."""

from __future__ import annotations

from pathlib import Path

from labeling.reviewing import reference_file
from labeling.steps.import_labels import ImportConfig, import_labels
from labeling.tally import listed_counts, print_notes
from rlhf.commands.command_line import parse
from rlhf.foundation.terminal import shown


def main(argv: list[str]) -> None:
    """Parse the options, import, and print what came in and what did not."""
    config = parse(ImportConfig, argv, prog="rlhf label import", description=(__doc__ or "").split(": ", 1)[1])
    done = import_labels.run(config)
    print(f"{done.summary} -> {shown(config.output)}")
    if references := len(done.imported.references) + len(done.imported.comparison_references):
        print(f"{references} answers that others are measured by -> {shown(reference_file(Path(config.output or '')))}")
    if left_out := listed_counts(done.imported.counts):
        print(f"left out or merged: {left_out}")
    print_notes(done.imported.notes)
