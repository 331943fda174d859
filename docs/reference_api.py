"""The reference of the Python API as Markdown: every exported name with its signature, docstring and options."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rlhf.foundation.options import Expected, Options

PACKAGES = ("rlhf", "labeling", "rewards")
HEAD = "| option | value, default | meaning |\n|---|---|---|"


def api() -> str:
    """The whole page."""
    parts = [
        "# Python API",
        "Every public name of the three packages. A step takes the options of its command with the same names, "
        "defaults and checks. Parameters before the star may be given without their names. Where a value may be held "
        "in memory (a model, samples, labels, a reward), its kind stands beside the text that names a file.",
        "Every step can be called in two more ways: `step.from_recipe(NAME, **options)` with a [recipe](recipes.md) or "
        "a YAML file, and `step.run(config)` with an options object. A mistake is an `rlhf.InputError`, which is a "
        "`ValueError`, with one line: what, got, expected, fix.",
    ]
    for package in PACKAGES:
        module = importlib.import_module(package)
        parts += [f"## {package}", (inspect.getdoc(module) or "").split("\n\n")[0]]
        names = [name for name in module.__all__ if not name.startswith("_")]
        parts += [text for name in names for text in entry(package, name, getattr(module, name))]
    return "\n\n".join(parts)


def entry(package: str, name: str, what: Any) -> Iterator[str]:
    """One exported name."""
    full = f"{package}.{name}"
    yield f"### {full}"
    options = getattr(what, "options", what if isinstance(what, type) and issubclass(what, Options) else None)
    if options is not None:
        yield fenced(f"{full}({positional(options)})" + (returns(what) if what is not options else ""))
        yield said_of(what)
        yield option_table(options, lambda field: field.name)
        return
    yield fenced(f"{full}{signature(what)}")
    yield said_of(what)
    if isinstance(what, type):
        yield from members(what)


def said_of(what: Any) -> str:
    """A docstring as Markdown: options have a table of their own, and pages are links."""
    said = (inspect.getdoc(what) or "").split("\n\nOptions:\n")[0].strip()
    return re.sub(r"docs/([\w/]+)\.md", r"[\1](../\1.md)", said)


def positional(options: type[Options]) -> str:
    """The parameters that need no name, and a sign that the others do."""
    parameters = inspect.signature(options).parameters.values()
    named = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    return ", ".join([*named, "*", "..."] if len(named) < len(parameters) else named)


def signature(what: Callable[..., Any]) -> str:
    """The parameters of a function or class, a line each where one line is too long."""
    found = inspect.signature(what)
    parameters = [p for p in found.parameters.values() if p.name != "self"]
    said = (
        "" if isinstance(what, type) or found.return_annotation in (None, "None") else f" -> {found.return_annotation}"
    )
    written, starred = [], False
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            written, starred = [*written, "*"], True
        written.append(re.sub(r"^([*\w]+): '([^']*)'", r"\1: \2", str(parameter)))
    line = f"({', '.join(written)}){said}"
    return line if len(line) < 80 else "(\n    " + ",\n    ".join(written) + f",\n){said}"


def returns(what: Any) -> str:
    """The arrow and what a step returns, as its source says it."""
    said = inspect.signature(what).return_annotation
    return "" if said in (None, inspect.Signature.empty) else f" -> {said}"


def members(kind: type, *, methods: bool = True) -> Iterator[str]:
    """Public properties and methods that the class itself defines, with their docstrings."""
    rows = []
    for name, value in vars(kind).items():
        if name.startswith("_"):
            continue
        if isinstance(value, property):
            rows.append(f"`{name}`\n: {' '.join(said_of(value).split())}")
        elif methods and isinstance(value, (types.FunctionType, classmethod, staticmethod)) and inspect.getdoc(value):
            called = re.sub(r",? (?=\))|(?<=\() ", "", " ".join(signature(getattr(kind, name)).split()))
            rows.append(f"`{name}{called}`\n: {' '.join(said_of(value).split())}")
    if rows:
        yield "\n\n".join(rows)


def fenced(code: str) -> str:
    """A block of Python."""
    return f"```python\n{code}\n```"


def option_table(
    options: Any, shown: Callable[[dataclasses.Field[Any]], str], fields: Sequence[dataclasses.Field[Any]] | None = None
) -> str:
    """A row an option: its name, what it takes and its default, its help."""
    hints = typing.get_type_hints(options)
    rows = [
        f"| `{shown(field)}` | {cell(taken(hints[field.name], field))} | {cell(help_of(field))} |"
        for field in sorted(fields or dataclasses.fields(options), key=lambda field: field.name == "quiet")
        if field.init
    ]
    return "\n".join([HEAD, *rows])


def help_of(field: dataclasses.Field[Any]) -> str:
    """An option's help; argparse wants its percent signs doubled."""
    return str(field.metadata["help"]).replace("%%", "%")


def taken(hint: Any, field: dataclasses.Field[Any]) -> str:
    """What an option takes, and its default."""
    expected = Expected.of(hint, field.metadata.get("choices"))
    kind = {bool: "true or false", int: "whole number", float: "number", str: "text"}[expected.item]
    if expected.choices:
        kind = " or ".join(f"`{choice}`" for choice in expected.choices)
    kind += "".join(f" or {held}" for held in expected.held)
    kind = f"one or several of: {kind}" if expected.several else kind
    if callable(field.default_factory):
        default = field.default_factory()
        return kind + (f"; `{' '.join(map(str, default))}`" if default else "; none")
    if field.default is dataclasses.MISSING:
        return f"{kind}; required"
    return f"{kind}; " + ("not given" if field.default in (None, "") else f"`{field.default}`")


def cell(text: str) -> str:
    """Text in a table; what looks like HTML, a border or an escaped backslash is not."""
    return text.replace("\\\\", "\\\\\\\\").replace("|", "\\|").replace("<", "&lt;")
