"""A command with subcommands: finds the one that was named; each lives in a module of its own, so that help is fast."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from rlhf.foundation.errors import InputError


def run_group(prog: str, intro: str, subcommands: Mapping[str, tuple[str, str]], argv: list[str]) -> None:
    """Run `argv`'s subcommand, or print the list of them.

    `subcommands` maps a name to a module with `main(argv)` and one line of help. Raises InputError for an unknown one.
    """
    if not argv or argv[0] in ("-h", "--help"):
        width = max(map(len, subcommands))
        print(f"usage: {prog} SUBCOMMAND [options]\n\n{intro}\n")
        for name, (_, text) in subcommands.items():
            print(f"  {name:<{width}}  {text}")
        print("\nEach subcommand has --help.")
        return
    name, *rest = argv
    if name not in subcommands:
        raise InputError(
            f"{prog} {name}",
            got="an unknown subcommand",
            expected=f"one of {', '.join(subcommands)}",
            fix=f"see `{prog} --help`",
        )
    importlib.import_module(subcommands[name][0]).main(rest)
