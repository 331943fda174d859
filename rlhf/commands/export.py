"""`rlhf export RUN --rung NAME`: one rung out as an ordinary model directory, with a model card."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf.commands.command_line import parse
from rlhf.commands.first_words import first_words
from rlhf.evaluation.export import ExportConfig, export
from rlhf.foundation.terminal import say


def main(argv: Sequence[str]) -> None:
    """Parse, export, say where the model is."""
    config = parse(ExportConfig, first_words(argv, "run"), prog="rlhf export", description="One rung out.")
    say(f"model: {export.run(config)}")
