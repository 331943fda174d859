"""Command-line options from a dataclass: TRL's parser, with its tracebacks and usage dumps turned into one line.

A field's `metadata["help"]` is the single text of an option: meaning, unit, range. `--config` takes a YAML file or
the name of a packaged recipe (rlhf/recipes/NAME.yaml); the command line wins over it; unknown keys are errors.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import difflib
import io
import sys
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from trl import TrlParser

from rlhf.foundation.errors import InputError, Told
from rlhf.foundation.yaml_files import read_yaml

RECIPES = Path(__file__).parent / "recipes"

Config = TypeVar("Config")


def option(default: Any = dataclasses.MISSING, *, help: str, **metadata: Any) -> Any:
    """A dataclass field that is a command-line option; a mutable default is copied for each instance."""
    help = help.replace("%", "%%")  # argparse formats its help texts
    if isinstance(default, (list, dict)):
        copied = default
        return dataclasses.field(default_factory=lambda: type(copied)(copied), metadata={"help": help, **metadata})
    return dataclasses.field(default=default, metadata={"help": help, **metadata})


def recipe_names() -> list[str]:
    """Names of the packaged recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def read_config(name: str) -> dict[str, Any]:
    """The keys of a YAML file, or of a packaged recipe of that name. Raises InputError."""
    path = Path(name)
    if not path.suffix and not path.exists():
        path = RECIPES / f"{name}.yaml"
        if not path.exists():
            raise InputError(
                "--config",
                got=name,
                expected=f"a YAML file or one of the recipes {', '.join(recipe_names())}",
                fix="check the name",
            )
    return read_yaml(path, f"--config {name}")


def parse(config: type[Config], argv: Sequence[str], *, prog: str, description: str) -> Config:
    """Build a `config` from the command line and, with `--config`, a YAML file or recipe.

    Raises InputError on an unknown option or key, a missing or badly typed value, or a rule between fields that
    the dataclass checks itself. `--help` prints the options and exits with 0.
    """
    arguments = list(argv)
    if "--help" in arguments or "-h" in arguments:
        print_help(config, prog, description)
        raise Told(0)
    name, arguments = _take_config(arguments)
    values = read_config(name) if name is not None else {}
    known = {f.name: f for f in dataclasses.fields(config) if f.init}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise _unknown(f"--config {name}, key '{key}'", key, list(known))
    for argument in arguments:
        key = argument[2:].split("=")[0]
        if argument.startswith("--") and key not in known and key.removeprefix("no_") not in known:
            raise _unknown(argument.split("=")[0], key, list(known))
    parser = _parser(config, prog, description)
    errors = io.StringIO()
    from_file = [text for key, value in values.items() for text in _as_arguments(key, value)]
    try:
        with contextlib.redirect_stderr(errors):
            (built,) = parser.parse_args_and_config(
                args=[*_not_overridden(from_file, arguments), *arguments],
                return_remaining_strings=False,
            )
    except SystemExit:
        raise _usage_error(errors.getvalue(), prog) from None
    except InputError:
        raise
    except ValueError as error:  # words that belong to no option
        raise InputError(
            prog, got=str(error).split(": ", 1)[-1], expected="--OPTION VALUE", fix=f"see `{prog} --help`"
        ) from None
    return typing.cast(Config, built)


def print_help(config: type[Any], prog: str, description: str) -> None:
    """Print every option with its help text and default."""
    _parser(config, prog, description).print_help(sys.stdout)


def _parser(config: type[Any], prog: str, description: str) -> TrlParser:
    epilog = "--config FILE.yaml, or the name of a packaged recipe: " + ", ".join(recipe_names())
    parser = TrlParser(
        dataclass_types=[typing.cast(Any, config)],
        prog=prog,
        description=description,
        epilog=epilog,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    return parser


def _take_config(arguments: list[str]) -> tuple[str | None, list[str]]:
    for index, argument in enumerate(arguments):
        if argument.startswith("--config="):
            return argument.split("=", 1)[1], arguments[:index] + arguments[index + 1 :]
        if argument == "--config":
            if index + 1 == len(arguments):
                raise InputError(
                    "--config",
                    got="nothing",
                    expected="a YAML file or a recipe name",
                    fix="name one after it",
                )
            return arguments[index + 1], arguments[:index] + arguments[index + 2 :]
    return None, arguments


def _as_arguments(key: str, value: object) -> list[str]:
    """A YAML value as command-line words, so that both sources pass the same type checks."""
    if value is None:
        return []
    if isinstance(value, (list, tuple)):
        return [f"--{key}", *(str(item) for item in value)]
    return [f"--{key}={value}"]


def _not_overridden(from_file: list[str], arguments: list[str]) -> list[str]:
    """Drop the file's options that the command line sets too (a list would otherwise be joined to the file's)."""
    given = {a[2:].split("=")[0].removeprefix("no_") for a in arguments if a.startswith("--")}
    kept: list[str] = []
    keep = True
    for word in from_file:
        if word.startswith("--"):
            keep = word[2:].split("=")[0] not in given
        if keep:
            kept.append(word)
    return kept


def _unknown(what: str, key: str, known: list[str]) -> InputError:
    near = difflib.get_close_matches(key, known, n=1)
    fix = f"did you mean --{near[0]}?" if near else "see --help"
    return InputError(what, got="an unknown option", expected="an option of this command", fix=fix)


def _usage_error(printed: str, prog: str) -> InputError:
    """argparse's last line, `PROG: error: TEXT`, as one of our lines."""
    line = printed.strip().splitlines()[-1] if printed.strip() else "unusable arguments"
    text = line.split("error: ", 1)[-1]
    what, _, detail = text.partition(": ")
    if what == "the following arguments are required":
        return InputError(detail, got="nothing", expected="a value", fix=f"see `{prog} --help`")
    if not detail:
        what, detail = prog, text
    return InputError(
        what.removeprefix("argument "),
        got=detail,
        expected="a value of the option's type",
        fix=f"see `{prog} --help`",
    )
