"""`rlhf label`: finds the subcommand; each lives in a module of its own, so that the help answers at once."""

from __future__ import annotations

import importlib

from labeling.errors import InputError

# subcommand -> (module with `main(argv)`, one line of help)
SUBCOMMANDS: dict[str, tuple[str, str]] = {
    "serve": ("rlhf.commands.label_serve", "a local Label Studio in one command: start, --status, --stop"),
    "push": ("rlhf.commands.label_push", "samples become tasks: judgements or comparisons, each exactly once"),
    "pull": ("rlhf.commands.label_pull", "labels come back: complete, counted, several raters kept apart"),
    "page": ("rlhf.commands.label_page", "one offline HTML file to label in, and the labels out of what is sent back"),
    "status": (
        "rlhf.commands.label_status",
        "how many, by whom, how fast, how far raters agree, what to look at again",
    ),
    "simulate": ("rlhf.commands.label_simulate", "annotators by rule, with a chosen share of wrong answers"),
    "annotate": ("rlhf.commands.label_annotate", "the same annotators, answering as users of the real Label Studio"),
    "import": ("rlhf.commands.label_import", "CSV, JSON lines or a Label Studio export become labels"),
}


def main(argv: list[str]) -> None:
    """Run one subcommand. Raises InputError for an unknown one."""
    if not argv or argv[0] in ("-h", "--help"):
        print_usage()
        return
    name, *rest = argv
    if name not in SUBCOMMANDS:
        raise InputError(
            f"rlhf label {name}",
            got="an unknown subcommand",
            expected=f"one of {', '.join(SUBCOMMANDS)}",
            fix="see `rlhf label --help`",
        )
    importlib.import_module(SUBCOMMANDS[name][0]).main(rest)


def print_usage() -> None:
    """Print the list of subcommands."""
    width = max(map(len, SUBCOMMANDS))
    print("usage: rlhf label SUBCOMMAND [options]\n\nSamples go out to be labelled; labels come back.\n")
    for name, (_, text) in SUBCOMMANDS.items():
        print(f"  {name:<{width}}  {text}")
    print("\nEach subcommand has --help.")
