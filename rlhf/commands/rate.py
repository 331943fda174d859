"""`rlhf rate`: finds the subcommand; each lives in a module of its own, so that the help answers at once."""

from __future__ import annotations

import importlib

from labeling.errors import InputError

# subcommand -> (module with `main(argv)`, one line of help)
SUBCOMMANDS: dict[str, tuple[str, str]] = {
    "plan": ("rlhf.commands.rate_plan", "what a blind rating of so many samples can show, before anything goes out"),
    "push": ("rlhf.commands.rate_push", "a blind packet: two models or the ladder, in Label Studio or an offline page"),
    "pull": ("rlhf.commands.rate_pull", "ratings come back, still blind"),
    "score": ("rlhf.commands.rate_score", "unblind and give the verdict with its interval"),
}


def main(argv: list[str]) -> None:
    """Run one subcommand. Raises InputError for an unknown one."""
    if not argv or argv[0] in ("-h", "--help"):
        print_usage()
        return
    name, *rest = argv
    if name not in SUBCOMMANDS:
        raise InputError(
            f"rlhf rate {name}",
            got="an unknown subcommand",
            expected=f"one of {', '.join(SUBCOMMANDS)}",
            fix="see `rlhf rate --help`",
        )
    importlib.import_module(SUBCOMMANDS[name][0]).main(rest)


def print_usage() -> None:
    """Print the list of subcommands."""
    width = max(map(len, SUBCOMMANDS))
    print("usage: rlhf rate SUBCOMMAND [options]\n\nPeople rate samples without knowing whose they are.\n")
    for name, (_, text) in SUBCOMMANDS.items():
        print(f"  {name:<{width}}  {text}")
    print("\nEach subcommand has --help.")
