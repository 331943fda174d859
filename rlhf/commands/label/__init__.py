"""`rlhf label`: samples go out to be labelled, by people or by rule; labels come back."""

from __future__ import annotations

from rlhf.commands.group import run_group

# subcommand -> (module with `main(argv)`, one line of help)
SUBCOMMANDS: dict[str, tuple[str, str]] = {
    "serve": ("rlhf.commands.label.serve", "a local Label Studio in one command: start, --status, --stop"),
    "push": ("rlhf.commands.label.push", "samples become tasks: judgements or comparisons, each exactly once"),
    "pull": ("rlhf.commands.label.pull", "labels come back: complete, counted, several raters kept apart"),
    "page": ("rlhf.commands.label.page", "one offline HTML file to label in, and the labels out of what is sent back"),
    "status": (
        "rlhf.commands.label.status",
        "how many, by whom, how fast, how far raters agree, what to look at again",
    ),
    "simulate": ("rlhf.commands.label.simulate", "annotators by rule, with a chosen share of wrong answers"),
    "annotate": ("rlhf.commands.label.annotate", "the same annotators, answering as users of the real Label Studio"),
    "import": ("rlhf.commands.label.import_labels", "CSV, JSON lines or a Label Studio export become labels"),
}


def main(argv: list[str]) -> None:
    """Run one subcommand. Raises InputError for an unknown one."""
    run_group("rlhf label", "Samples go out to be labelled; labels come back.", SUBCOMMANDS, argv)
