"""Options hold what they say, for everyone: the command line, a YAML file and a notebook pass the same checks.

Every command's options are a dataclass on `Options`. A field's type, its `choices`, and what no option can be (NaN or
infinite, a whole number that no machine word holds, text with a NUL) are checked here; rules between fields are the
dataclass's own, in its `__post_init__`, which begins with `super().__post_init__()`.
"""

from __future__ import annotations

import dataclasses
import math
import os
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from rlhf.foundation.errors import InputError

BIGGEST = 2**63 - 1
LOWEST_TEMPERATURE = 1e-3  # below it logits divided by it overflow, and sampling is argmax anyway


@dataclasses.dataclass
class Options:
    """Base of every command's options, with what all have; a field of another type or kind of value is an InputError.

    So is an option that would have no effect, which is one that differs from its default where none of the options
    that NEEDS names for it does, or one does that NOT_WITH names. Both map a name to names with spaces between.
    """

    NEEDS: ClassVar[Mapping[str, str]] = {}
    NOT_WITH: ClassVar[Mapping[str, str]] = {}

    quiet: bool = dataclasses.field(default=False, kw_only=True, metadata={"help": "no progress bars"})

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            expected = Expected.of(hints[field.name], field.metadata.get("choices"))
            value = expected.taken(getattr(self, field.name))
            if not expected.fits(value):
                got = repr(getattr(self, field.name))
                raise InputError(
                    f"--{field.name}",
                    got=got if len(got) <= 80 else got[:77] + "...",
                    expected=str(expected),
                    fix="choose another value",
                )
            setattr(self, field.name, value)
        if getattr(self, "seed", 0) < 0:  # no generator takes it
            raise InputError("--seed", got=getattr(self, "seed", 0), expected="at least 0", fix="choose another value")
        self._refuse_idle()

    def _refuse_idle(self) -> None:
        changed = {f.name for f in dataclasses.fields(self) if getattr(self, f.name) != _default(f)}
        for name, others in self.NEEDS.items():
            if name in changed and changed.isdisjoint(others.split()):
                wanted = " or ".join(f"--{other}" for other in others.split())
                raise InputError(
                    f"--{name}", got=f"it without {wanted}", expected="both", fix=f"give {wanted} too, or leave it out"
                )
        for name, others in self.NOT_WITH.items():
            for other in others.split():
                if {name, other} <= changed:
                    fix = f"leave out --{name}, which has no effect beside --{other}"
                    raise InputError(f"--{name}", got=f"--{other} beside it", expected="one of them", fix=fix)


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default_factory() if callable(field.default_factory) else field.default


@dataclasses.dataclass(frozen=True)
class Expected:
    """What a field may hold: values of one type (several, in a list), None too where `optional`."""

    item: type
    choices: tuple[Any, ...] = ()
    several: bool = False
    optional: bool = False

    @classmethod
    def of(cls, hint: Any, choices: Sequence[Any] | None) -> Expected:
        """From a field's annotation: bool, int, float, str, Literal, list of them, or one of them or None."""
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin in (types.UnionType, typing.Union):
            inner = cls.of(next(a for a in arguments if a is not type(None)), choices)
            return dataclasses.replace(inner, optional=True)
        if origin is list:
            return dataclasses.replace(cls.of(arguments[0], choices), several=True)
        if origin is typing.Literal:
            return cls(str, arguments)
        return cls(hint, tuple(choices or ()))

    def taken(self, value: Any) -> Any:
        """A path as its text, and one value where several may stand as a list of it."""
        if self.several and isinstance(value, (str, int, float, os.PathLike)):
            value = [value]
        if self.several and isinstance(value, (list, tuple)):
            return [os.fspath(item) if isinstance(item, os.PathLike) else item for item in value]
        return os.fspath(value) if self.item is str and isinstance(value, os.PathLike) else value

    def fits(self, value: Any) -> bool:
        """Whether a field may hold `value`."""
        if value is None:
            return self.optional
        if self.several:
            return isinstance(value, list) and all(self._fits(item) for item in value)
        return self._fits(value)

    def _fits(self, value: Any) -> bool:
        if self.choices and value not in self.choices:
            return False
        if self.item is bool or isinstance(value, bool):
            return self.item is bool and isinstance(value, bool)
        if self.item is str:
            return isinstance(value, str) and "\0" not in value
        if self.item is int:
            return isinstance(value, int) and abs(value) <= BIGGEST
        return isinstance(value, (int, float)) and abs(value) <= BIGGEST and math.isfinite(value)

    def __str__(self) -> str:
        named = {bool: "true or false", int: "a whole number", float: "a finite number", str: "a text"}[self.item]
        if self.choices:
            named = ", ".join(map(str, self.choices[:-1])) + f" or {self.choices[-1]}"
        return f"a list, each item {named}" if self.several else named + (" or nothing" if self.optional else "")


def check_ranges(config: object, ranges: list[tuple[str, float, float]]) -> None:
    """Raise InputError for the first field that is outside its closed range, or holds a value that is."""
    for name, low, high in ranges:
        given = getattr(config, name)
        for value in given if isinstance(given, list) else [given]:
            if not low <= value <= high:
                raise InputError(
                    f"--{name}",
                    got=value,
                    expected=f"at least {low:g}" if high == math.inf else f"{low:g} to {high:g}",
                    fix="choose one in the range",
                )
