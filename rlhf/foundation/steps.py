"""A step is a function of its options: called with keywords in Python, by a command with those of a command line.

The options are one dataclass, so that names, defaults, checks and help are the same for both.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import textwrap
from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from rlhf.foundation.options import Options

P = ParamSpec("P")
Config = TypeVar("Config", bound=Options)
ConfigIn = TypeVar("ConfigIn", bound=Options, contravariant=True)
Result = TypeVar("Result", covariant=True)


class Step(Protocol[P, ConfigIn, Result]):
    """`step(samples, noise=0.1)`; the same with a packaged recipe or YAML file; the same with options that are made."""

    def __call__(self, *args: P.args, **options: P.kwargs) -> Result: ...

    def from_recipe(self, recipe: str, **options: Any) -> Result:
        """With the keys of a recipe by its name or of a YAML file; `options` win over them."""

    def run(self, config: ConfigIn) -> Result:
        """With options that are made and checked already."""


def step(options: Callable[P, Config]) -> Callable[[Callable[[Config], Result]], Step[P, Config, Result]]:
    """Makes a function of an options object a function of the options; `options` is their dataclass."""

    def of(work: Callable[[Config], Result]) -> Step[P, Config, Result]:
        @functools.wraps(work)
        def called(*args: P.args, **given: P.kwargs) -> Result:
            return work(options(*args, **given))

        def from_recipe(recipe: str, **given: Any) -> Result:
            return work(cast(type[Config], options).from_recipe(recipe, **given))

        signature = _signature(cast(type[Options], options), work)
        described = f"{inspect.cleandoc(work.__doc__ or '')}\n\n{_listed(cast(type[Options], options))}"
        attributes = {"__signature__": signature, "__doc__": described, "run": work, "from_recipe": from_recipe}
        del called.__wrapped__  # whoever unwraps it would see a function of one options object
        for name, value in {**attributes, "options": options}.items():
            setattr(called, name, value)
        return cast(Step[P, Config, Result], called)

    return of


def _signature(options: type[Options], work: Callable[..., Any]) -> inspect.Signature:
    """The options as parameters, each list with what it holds, what every step has (`quiet`) last."""
    made = {f.name: f.default_factory() for f in dataclasses.fields(options) if callable(f.default_factory)}
    given = inspect.signature(options).parameters.values()
    shown = [one.replace(default=made.get(one.name, one.default)) for one in given if one.name != "quiet"]
    shown += [one for one in given if one.name == "quiet"]
    return inspect.Signature(shown, return_annotation=work.__annotations__.get("return"))


def _listed(options: type[Options]) -> str:
    """Every option with its help, as the command line has it."""
    lines = ["Options:"]
    for field in dataclasses.fields(options):
        said = field.metadata["help"].replace("%%", "%")
        lines += textwrap.wrap(f"{field.name}: {said}", 112, initial_indent="    ", subsequent_indent="        ")
    return "\n".join(lines)
