"""Options hold what they say, for everyone: the command line, a YAML file and a notebook pass the same checks.

Every command's options are a dataclass on `Options`. A field's type, its `choices`, and what no option can be (NaN or
infinite, a whole number that no machine word holds, text with a NUL) are checked here; rules between fields are the
dataclass's own, in its `__post_init__`, which begins with `super().__post_init__()`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
import os
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

from rlhf.foundation.errors import InputError
from rlhf.foundation.held import recorded
from rlhf.foundation.recipes import read_config
from rlhf.foundation.terminal import shown
from rlhf.foundation.trl_names import where_it_went

BIGGEST = 2**63 - 1
REQUIRED = "required"
PLAIN = (bool, int, float, str, list, type(None))
LOWEST_TEMPERATURE = 1e-3  # below it logits divided by it overflow, and sampling is argmax anyway


if TYPE_CHECKING:
    Item = TypeVar("Item")

    class Several(Generic[Item]):
        """An option that holds a list and takes one value for a list of it; a checker knows such by their `__set__`."""

        def __get__(self, instance: object, owner: object = None) -> list[Item]: ...
        def __set__(self, instance: object, value: Item | Sequence[Item]) -> None: ...
else:
    Several = list


@dataclasses.dataclass
class Options:
    """Base of every command's options, with what all have; a field of another type or kind of value is an InputError.

    So is an option that would have no effect, which is one that differs from its default where none of the options
    that NEEDS names for it does, or one does that NOT_WITH names. Both map a name to names with spaces between.
    """

    NEEDS: ClassVar[Mapping[str, str]] = {}
    NOT_WITH: ClassVar[Mapping[str, str]] = {}

    quiet: bool = dataclasses.field(default=False, kw_only=True, metadata={"help": "no progress bars"})

    def __new__(cls, *args: Any, **options: Any) -> Self:
        """Raises InputError for a name that is no option, with the one that is meant, before Python's TypeError."""
        known = [field.name for field in dataclasses.fields(cls) if field.init]
        for name in options:
            if name not in known:
                raise unknown_option(f"{cls.__name__}({name}=...)", name, known, "")
        return super().__new__(cls)

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

    def recorded(self) -> dict[str, Any]:
        """Every option as a record holds it: values in memory by their names."""
        return {field.name: recorded(getattr(self, field.name)) for field in dataclasses.fields(self)}

    def in_memory(self) -> list[str]:
        """Names of the options that hold a value in place of a name."""
        return [name for name, said in self.recorded().items() if said != getattr(self, name)]

    @classmethod
    def from_recipe(cls, recipe: str, **options: Any) -> Self:
        """With the keys of a packaged recipe or a YAML file; `options` win over them. Raises InputError."""
        return cls(**{**recipe_values(cls, recipe), **options})

    def _refuse_idle(self) -> None:
        changed = {f.name for f in dataclasses.fields(self) if _differs(getattr(self, f.name), _default(f))}
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


def option(default: Any = dataclasses.MISSING, *, help: str, **metadata: Any) -> Any:
    """A dataclass field that is an option; a mutable default is copied for each instance.

    `choices` are its possible values. `written` is for an option that names a file to write, where a result may stay in
    memory in Python: the command line's default, or REQUIRED. `escapes` is for texts in which a command line may say
    \\n for a new line, \\t for a tab and \\\\ for a backslash.
    """
    help = help.replace("%", "%%")  # argparse formats its help texts
    if isinstance(default, (list, dict)):
        copied = default
        return dataclasses.field(default_factory=lambda: type(copied)(copied), metadata={"help": help, **metadata})
    return dataclasses.field(default=default, metadata={"help": help, **metadata})


def _differs(value: Any, default: Any) -> bool:
    """Whether an option was given; a value in memory always was, whatever its class calls equal."""
    return value is not default and (not isinstance(value, PLAIN) or value != default)


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default_factory() if callable(field.default_factory) else field.default


@dataclasses.dataclass(frozen=True)
class Held:
    """A kind of value in memory: a class, or a sequence of items of one (`object` where they are of any)."""

    kind: Any
    item: type = object

    @classmethod
    def of(cls, hint: Any) -> Held:
        """From a part of a field's annotation, such as LanguageModel or Sequence[Sample]."""
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        is_rows = origin is Sequence and isinstance(arguments[0], type)
        return cls(origin or hint, arguments[0] if is_rows else object)

    def fits(self, value: Any) -> bool:
        """Whether a value is of this kind; of rows the first is looked at, the others when they are read."""
        if not isinstance(value, self.kind) or isinstance(value, (str, bytes)):
            return False
        rows: Any = value
        return self.item is object or not rows or isinstance(rows[0], self.item)

    def __str__(self) -> str:
        if self.kind is Sequence:
            return "a list" if self.item is object else f"a list of {self.item.__name__}"
        return "a function" if self.kind is Callable else f"a {self.kind.__name__}"


@dataclasses.dataclass(frozen=True)
class Expected:
    """What a field may hold: values of one type (several, in a list), None too where `optional`.

    `held` are the kinds of values that may stand in place of the text that names them.
    """

    item: type
    choices: tuple[Any, ...] = ()
    several: bool = False
    optional: bool = False
    held: tuple[Held, ...] = ()

    @classmethod
    def of(cls, hint: Any, choices: Sequence[Any] | None) -> Expected:
        """From a field's annotation: bool, int, float, str, Literal, list of them; or one of them, None or a class."""
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin in (types.UnionType, typing.Union):
            optional, named = type(None) in arguments, [a for a in arguments if a is not type(None)]
            first = next((a for a in named if typing.get_origin(a) is list), str if str in named else named[0])
            held = tuple(Held.of(a) for a in named if a is not first)
            return dataclasses.replace(cls.of(first, choices), optional=optional, held=held)
        if origin is list:
            return dataclasses.replace(cls.of(arguments[0], choices), several=True)
        if origin is typing.Literal:
            return cls(str, arguments)
        return cls(hint, tuple(choices or ()))

    def taken(self, value: Any) -> Any:
        """A path as its text, and one value where several may stand as a list of it."""
        if self.several and (isinstance(value, (str, int, float, os.PathLike)) or self._is_one(value)):
            value = [value]
        if self.several and isinstance(value, (list, tuple)):
            return [self._as_text(item) for item in value]
        return self._as_text(value) if self.item is str else value

    def _as_text(self, value: Any) -> Any:
        """A path as its text, unless it stands for itself."""
        is_path = isinstance(value, os.PathLike) and not self._stands_for_itself(value)
        return os.fspath(value) if is_path else value

    def _is_one(self, value: Any) -> bool:
        """Whether a value in memory is one of several, rather than a list of some: a list of samples is one set."""
        listed = isinstance(value, (list, tuple)) and (
            not value or isinstance(value[0], (str, os.PathLike)) or self._stands_for_itself(value[0])
        )
        return self._stands_for_itself(value) and not listed

    def _stands_for_itself(self, value: Any) -> bool:
        return any(held.fits(value) for held in self.held)

    def fits(self, value: Any) -> bool:
        """Whether a field may hold `value`."""
        if value is None:
            return self.optional
        if self.several:
            return isinstance(value, list) and all(self._fits(item) for item in value)
        return self._fits(value)

    def _fits(self, value: Any) -> bool:
        if self._stands_for_itself(value):
            return True
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
        if self.held:
            named += "".join(f" or {held}" for held in self.held)
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


def check_pattern(name: str, pattern: object) -> None:
    """Raise InputError, about `name`, for what is no regular expression; None is none given."""
    try:
        re.compile(typing.cast(str, "" if pattern is None else pattern))
    except (re.error, TypeError) as error:
        got = f"{pattern!r} ({error})"
        raise InputError(name, got=got, expected="a regular expression", fix="mend or quote it") from error


def recipe_values(config: type[Any], name: str) -> dict[str, Any]:
    """The options that a packaged recipe or YAML file gives; keys without a value are left out.

    Raises InputError for a key that is no option of `config`, and for a value of another kind.
    """
    hints = typing.get_type_hints(config)
    expected = {field.name: Expected.of(hints[field.name], None) for field in dataclasses.fields(config) if field.init}
    found = {}
    for key, value in read_config(name).items():
        place = f"--config {name}, key '{key}'"
        if key not in expected:
            raise unknown_option(place, key, list(expected))
        if value is not None:
            found[key] = _from_yaml(value, expected[key], place)
    return found


def _from_yaml(value: Any, expected: Expected, place: str) -> Any:
    """A YAML value as the field holds it; text that says a number is one (YAML reads 1e-4 as text).

    Raises InputError for a value of another kind, which as words of a command line would pass for text.
    """
    if expected.several and isinstance(value, list):
        return [_from_yaml(item, dataclasses.replace(expected, several=False), place) for item in value]
    with contextlib.suppress(ValueError, OverflowError):
        if expected.item in (int, float) and isinstance(value, str):
            return expected.item(value)
    wanted = {str: (str,), bool: (bool,), int: (int,), float: (int, float)}[expected.item]
    if isinstance(value, wanted) and isinstance(value, bool) == (expected.item is bool):
        return value
    got = shown(repr(value), 80)
    fix = "put it in quotes" if expected.item is str and not isinstance(value, (list, dict)) else "mend the file"
    raise InputError(place, got=got, expected=str(dataclasses.replace(expected, optional=False)), fix=fix)


# What a command line says with an option, and Python with an argument of the trainer itself.
_OF_THE_TRAINER = {"model_name_or_path": "model", "reward_model_path": "reward_funcs", "reward_func": "reward_funcs"}
_OF_THE_TRAINER |= {"dataset_name": "train_dataset", "prompts": "train_dataset", "use_peft": "peft_config"}


def _as_given(name: str, known: list[str], dashes: str) -> str:
    of_trainer = _OF_THE_TRAINER.get(name) if "kl_budget" in known and name not in known else None
    return f"{of_trainer} of PPOTrainer" if of_trainer else f"{dashes}{name}"


def unknown_option(what: str, key: str, known: list[str], dashes: str = "--") -> InputError:
    """The line on a name that is no option of a command: TRL's with what became of it, else with the nearest one."""
    moved = where_it_went(key, known)
    if moved is not None:
        whose, (_, new, why) = moved
        wanted = " and ".join(dict.fromkeys(_as_given(name, known, dashes) for name in new.split())) or "it left out"
        return InputError(what, got=f"an option of {whose}", expected=wanted, fix=why)
    near = difflib.get_close_matches(key, known, n=1)
    fix = f"did you mean {dashes}{near[0]}?" if near else "see --help"
    return InputError(what, got="an unknown option", expected="an option of this command", fix=fix)
