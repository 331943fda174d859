"""Command-line options from a dataclass: TRL's parser, with its tracebacks and usage dumps turned into one line.

A field's `metadata["help"]` is the single text of an option: meaning, unit, range. `--config` takes a YAML file or
the name of a packaged recipe (rlhf/recipes/NAME.yaml); the command line wins over it; unknown keys are errors.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
import typing
from collections.abc import Sequence
from typing import Any, TypeVar

from trl import TrlParser

from rlhf.foundation.errors import InputError, Told
from rlhf.foundation.options import REQUIRED, Expected, recipe_values, unknown_option
from rlhf.foundation.recipes import recipe_names

Config = TypeVar("Config")


def parse(config: type[Config], argv: Sequence[str], *, prog: str, description: str) -> Config:
    """Build a `config` from the command line and, with `--config`, a YAML file or recipe.

    Raises InputError on an unknown option or key, one given twice, a missing or badly typed value, or a rule between
    fields that the dataclass checks itself. `--help` prints the options and exits with 0.
    """
    arguments = list(argv)
    if "--help" in arguments or "-h" in arguments:
        print_help(config, prog, description)
        raise Told(0)
    name, arguments = _take_config(arguments)
    values = recipe_values(config, name) if name is not None else {}
    hints = typing.get_type_hints(config)
    fields = [f.name for f in dataclasses.fields(config) if f.init]  # type: ignore[arg-type]
    expected = {field: Expected.of(hints[field], None) for field in fields}
    _require_known_once(arguments, expected, prog)
    parser = _parser(config, prog, description)
    parser.set_defaults_with_config(**values)
    try:
        # Not parse_args_and_config: it would read options from a file PROGRAM.args too, without a word.
        built, stray = parser.parse_args_into_dataclasses(arguments, True, look_for_args_file=False)
    except UsageError as error:
        raise _usage_error(str(error), prog) from None
    if stray:
        raise InputError(stray[0], got="an unknown option", expected="--OPTION VALUE", fix=f"see `{prog} --help`")
    given = {field: getattr(built, field) for field in fields}
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        if field.metadata.get("escapes") and any(word.split("=")[0] == f"--{field.name}" for word in arguments):
            given[field.name] = [unescaped(text) for text in given[field.name]]
    return config(**given)


def unescaped(text: str) -> str:
    r"""What was typed, with `\n` as a new line, `\t` as a tab, `\\` as a backslash: shells leave them as they stand."""
    return re.sub(r"\\([nt\\])", lambda found: {"n": "\n", "t": "\t"}.get(found[1], found[1]), text)


def print_help(config: type[Any], prog: str, description: str) -> None:
    """Print every option with its help text and default."""
    _parser(config, prog, description).print_help(sys.stdout)


class UsageError(Exception):
    """What argparse would print before it ends the process."""


class _Parser(TrlParser):
    def error(self, message: str) -> typing.NoReturn:
        raise UsageError(message)


def _parser(config: type[Any], prog: str, description: str) -> TrlParser:
    epilog = "--config FILE.yaml, or the name of a packaged recipe: " + ", ".join(recipe_names())
    return _Parser(
        dataclass_types=[typing.cast(Any, _as_typed(config))],
        prog=prog,
        description=description,
        epilog=epilog,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )


def _as_typed(config: type[Any]) -> type[Any]:
    """The options as a command line has them: text where Python may hold a value, and files where a result goes."""
    hints = typing.get_type_hints(config)
    fields = []
    for field in dataclasses.fields(config):
        expected = Expected.of(hints[field.name], None)
        told = {key: value for key, value in field.metadata.items() if key not in ("written", "escapes")}
        kept: dict[str, Any] = {"metadata": told, "kw_only": True}
        written = field.metadata.get("written")
        if written is not None:
            kept |= {} if written == REQUIRED else {"default": written}
        elif callable(field.default_factory):
            kept["default_factory"] = field.default_factory
        else:
            kept["default"] = field.default
        kind: Any = list[expected.item] if expected.several else expected.item  # type: ignore[name-defined]
        kind = kind if expected.held else hints[field.name]
        optional = expected.optional and bool(expected.held) and written is None
        fields.append((field.name, kind | None if optional else kind, dataclasses.field(**kept)))
    return dataclasses.make_dataclass(config.__name__, fields)


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


def _require_known_once(arguments: list[str], expected: dict[str, Expected], prog: str) -> None:
    """Raise InputError for an option that there is not, one given twice, and a word too many: no value is a guess."""
    typed, key, values, seen = "", "", 0, set[str]()
    for argument in arguments:
        if not argument.startswith("--"):
            values += 1
            if not typed:
                raise InputError(prog, got=repr(argument), expected="--OPTION VALUE", fix=f"see `{prog} --help`")
            if values > 1 and not expected[key].several:
                fix = "leave it out, or put the value in quotes if it holds spaces"
                raise InputError(typed, got=f"a further word, {argument!r}", expected="one value", fix=fix)
            continue
        typed, found, _ = argument.partition("=")
        key = typed[2:] if typed[2:] in expected else typed[2:].removeprefix("no_")
        values = len(found)
        if key not in expected and typed != "--config":
            raise unknown_option(typed, typed[2:], list(expected))
        if key in seen or typed == "--config":
            fix = "give all its values in one place"
            raise InputError(typed, got="it a second time", expected="each option once", fix=fix)
        seen.add(key)


def _usage_error(text: str, prog: str) -> InputError:
    """argparse's message as one of our lines."""
    what, _, detail = text.partition(": ")
    if what == "the following arguments are required":
        names = ", ".join(name.split("/")[0] for name in detail.split(", "))
        return InputError(names, got="nothing", expected="a value", fix=f"see `{prog} --help`")
    if not detail:
        what, detail = prog, text
    return InputError(
        what.removeprefix("argument ").split("/")[0],  # its other spelling, with hyphens, is behind the stroke
        got=detail,
        expected="a value of the option's type",
        fix=f"see `{prog} --help`",
    )
