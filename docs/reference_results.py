"""What the steps return, found by the return annotations of their sources: class, docstring, fields, properties."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reference_api import PACKAGES, fenced, members, said_of


def results() -> str:
    """The part of the page below the packages."""
    found: dict[str, type] = {}
    for package in PACKAGES:
        module = importlib.import_module(package)
        for step in (getattr(module, name) for name in module.__all__ if name != "__version__"):
            if hasattr(step, "options"):
                annotation = str(inspect.signature(step).return_annotation)
                found |= dict(named(annotation, importlib.import_module(step.run.__module__)))
    said = "A step returns one of these, or a path, a list of lines or counts; exported classes stand above."
    return "\n\n".join(["## Results", said, *(described(found[name]) for name in sorted(found))])


def named(annotation: str, module: Any) -> Iterator[tuple[str, type]]:
    """The project's classes that an annotation names, as its module defines or imports them."""
    origins = {
        alias.asname or alias.name: (node.module or "", alias.name)
        for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    exported = {name for package in PACKAGES for name in importlib.import_module(package).__all__}
    for name in set(re.findall(r"\b[A-Z]\w+", annotation)) - exported:
        where, original = origins.get(name, (module.__name__, name))
        if where.split(".")[0] in PACKAGES:
            yield name, getattr(importlib.import_module(where), original)


def described(kind: type) -> str:
    """A class as it is read: what it is, its fields with their types, its properties."""
    hints = {name: getattr(hint, "__forward_arg__", hint) for name, hint in inspect.get_annotations(kind).items()}
    fields = [f"{name}: {hint}" for name, hint in hints.items() if not name.startswith("_")]
    head = fenced(f"class {kind.__name__}:  # {kind.__module__}" + "".join(f"\n    {field}" for field in fields))
    return "\n\n".join([f"### {kind.__name__}", head, said_of(kind), *members(kind, methods=False)])
