"""YAML files of options, read so that nothing means something else than it says.

PyYAML follows YAML 1.1, where `1:30` is 90 and `010` is 8, and of a key that stands twice the last one wins. Each of
these is refused; so is a file that contains itself.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_text

LONGEST = 1_000_000  # characters; PyYAML reads a hundred thousand in a second
# Numbers of YAML 1.1 that YAML 1.2 and every reader take for something else: sexagesimal, octal, with underscores.
AMBIGUOUS = re.compile(r"[-+]?([0-9]+(:[0-5]?[0-9])+(\.[0-9]*)?|0[0-9_]+|[0-9]+_[0-9_]*)")


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """SafeLoader without the surprises."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping, each key once."""
        seen: set[str] = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {name!r} a second time", key.start_mark)
            seen.add(name)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return mapping

    def construct_scalar(self, node: yaml.ScalarNode) -> Any:
        """A scalar; a number that could be read in two ways is refused."""
        numeric = node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
        if numeric and AMBIGUOUS.fullmatch(node.value):
            problem = f"{node.value}, a number that YAML reads in its own way"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return super().construct_scalar(node)


# Without a dot or a sign YAML 1.1 takes 1e-4 for text; YAML 1.2 and everyone who writes it mean a number.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def plain_value(text: str) -> Any:
    """One value as a YAML file would hold it. Raises yaml.YAMLError."""
    return yaml.load(text, _Loader)


def read_yaml(path: Path, place: str) -> dict[str, Any]:
    """The keys and values of a YAML file, {} of an empty one. Raises InputError naming `place`, and the line."""
    try:
        text = read_text(path)
    except InputError as error:
        raise InputError(place, got=error.got, expected=error.expected, fix=error.fix) from error
    if len(text) > LONGEST:
        fix = "a file of options has a few lines"
        raise InputError(place, got=f"{len(text):,} characters", expected=f"at most {LONGEST:,}", fix=fix)
    try:
        values = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        where = f" (line {mark.line + 1})" if mark else ""
        said = str(problem) if isinstance(error, yaml.constructor.ConstructorError) and problem else "no valid YAML"
        raise InputError(place, got=said + where, expected="KEY: VALUE lines", fix="mend the file") from error
    if values is None:
        return {}
    if not isinstance(values, dict) or _contains_itself(values):
        kind = "that contains itself" if isinstance(values, dict) else type(values).__name__
        raise InputError(place, got=f"a YAML {kind}", expected="KEY: VALUE lines", fix="mend the file")
    return {str(key): value for key, value in values.items()}


def _contains_itself(value: Any, above: tuple[int, ...] = ()) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    inside = value.values() if isinstance(value, dict) else value
    return id(value) in above or any(_contains_itself(item, (*above, id(value))) for item in inside)
