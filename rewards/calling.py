"""The one way in which a reward is called, by PPO and by every command that takes one.

`f(prompts, completions, completion_ids, **columns) -> list[float | None]`, all by keyword, as TRL calls it; a function
without `**kwargs` gets only what it names. Conversations come as lists of messages, also where a record holds them as
a string, and their completions as [{"role": "assistant", "content": ...}]. Of what comes back numbers, truth values
and None (not applicable) in a list, tuple or one-dimensional array are taken, one a completion; nothing else becomes a
reward by accident: the keys of a dict, the letters of a text, a mean in place of its parts.

How this differs from TRL: a function that turns gradients off or sets another default dtype does so for itself alone,
it may change the messages that it is given, and sys.exit is refused. `async def` functions are awaited together, as in
TRL, each with at most so many completions at once. `trainer_state`, `log_extra` and `log_metric` are given as in TRL;
where no trainer calls they are None and functions that keep nothing.

Shapes: N completions.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
import numbers
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, cast

from rlhf.foundation.conversation import Text, assistant_turn, prompt_from_text
from rlhf.foundation.errors import InputError

RewardFunction = Callable[..., Sequence[float | None]]
Given = dict[str, Any]
BIGGEST = 1e100  # rewards are squared and summed: the sums must fit a float64
EXPECTED = "a list of {n} numbers (or None), one a completion"
RAISED = (Exception, SystemExit, GeneratorExit, asyncio.CancelledError)  # anything but Ctrl-C
FIX = "mend the function; a run can be continued with --resume --accept_changes"
AT_ONCE = 64
"""Completions that an `async def` function is given at once, where nothing else is asked for."""


def _keep_nothing(name: str, value: Any) -> None:
    """What `log_extra` and `log_metric` do where no trainer calls."""


EXTRAS: dict[str, Any] = {"trainer_state": None, "log_extra": _keep_nothing, "log_metric": _keep_nothing}
_UNTOLD = ("prompts", "completions", *EXTRAS)


class FailedOnSample(InputError):
    """A reward function raised, or gave what is no finite number; another sample may be scored well."""


def reward_name(function: Any) -> str:
    """The stable name a reward is logged under; of a partial function that of the whole one."""
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def as_trl_gives(prompts: Sequence[Text], completions: Sequence[Text]) -> tuple[list[Text], list[Text]]:
    """Prompts and completions as TRL gives them to reward functions, from those of records or of a rollout."""
    read = [prompt_from_text(prompt) if isinstance(prompt, str) else prompt for prompt in prompts]
    turns = [
        assistant_turn(text) if isinstance(text, str) and not isinstance(prompt, str) else text
        for prompt, text in zip(read, completions, strict=True)
    ]
    return [_copied(prompt) for prompt in read], [_copied(completion) for completion in turns]


def _copied(text: Text) -> Text:
    return text if isinstance(text, str) else [dict(message) for message in text]


def call_reward(
    function: RewardFunction,
    prompts: Sequence[Text],
    completions: Sequence[Text],
    completion_ids: Sequence[Sequence[int]] | None = None,
    columns: Mapping[str, Any] | None = None,
) -> list[float | None]:
    """The rewards of N completions; None where the function does not apply.

    `completion_ids` is None where only texts are known. Raises InputError naming function, sample, what came and what
    is expected: FailedOnSample when the function raises or a value is no finite number, else for another shape.
    """
    return call_rewards([function], prompts, completions, completion_ids, columns)[0]


def call_rewards(
    functions: Sequence[RewardFunction],
    prompts: Sequence[Text],
    completions: Sequence[Text],
    completion_ids: Sequence[Sequence[int]] | None = None,
    columns: Mapping[str, Any] | None = None,
    *,
    at_once: int = AT_ONCE,
) -> list[list[float | None]]:
    """`call_reward` of F functions: F lists. The `async def` ones wait together, each for `at_once` completions."""
    if not completions:
        return [[] for _ in functions]
    given = _given(prompts, completions, completion_ids, columns or {})
    calls = [_Call(function, given, completions) for function in functions]
    waiting = [call for call in calls if _is_async(call.function)]
    with _process_state_kept():
        outcomes = waited_for(_together(waiting, at_once)) if waiting else []
    found = dict(zip(map(id, waiting), outcomes, strict=True))
    return [call.rewards(found[id(call)] if id(call) in found else call.outcome()) for call in calls]


class _Call:
    """One function and the samples that it is asked about."""

    def __init__(self, function: RewardFunction, given: Given, completions: Sequence[Text]) -> None:
        self.function, self.completions = function, completions
        self.name = f"reward function {reward_name(function)}"
        self.arguments = _asked_for(function, given, self.name)

    def outcome(self) -> Any:
        """What the function returned, or what it raised."""
        try:
            return _quietly(self.function, *self.arguments(slice(None)))
        except RAISED as error:
            return error

    async def awaited(self, at_once: int) -> Any:
        """The same of an `async def` function, piece by piece."""
        values: list[Any] = []
        try:
            for start in range(0, len(self.completions), at_once):
                positional, named = self.arguments(slice(start, start + at_once))
                returned = await cast(Any, self.function(*positional, **named))
                values += _listed(returned, self.name, len(self.completions[start : start + at_once]))
        except RAISED as error:
            return error
        return values

    def rewards(self, outcome: Any) -> list[float | None]:
        """The rewards in an outcome. Raises InputError."""
        if isinstance(outcome, InputError):
            raise outcome
        expected = EXPECTED.format(n=len(self.completions))
        if isinstance(outcome, BaseException):
            culprit = _culprit(self.function, self.arguments, self.completions)
            got = f"{type(outcome).__name__}: {outcome}{culprit}"
            raise FailedOnSample(self.name, got=got, expected=expected, fix=FIX) from outcome
        found = _listed(outcome, self.name, len(self.completions))
        return [_number(value, self.name, i, self.completions[i]) for i, value in enumerate(found)]


def _is_async(function: Any) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


async def _together(calls: Sequence[_Call], at_once: int) -> list[Any]:
    return await asyncio.gather(*(call.awaited(at_once) for call in calls))


def _given(
    prompts: Sequence[Text],
    completions: Sequence[Text],
    completion_ids: Sequence[Sequence[int]] | None,
    columns: Mapping[str, Any],
) -> Given:
    """Every argument that a function may name, by name; each a sequence of N, None, or one of EXTRAS."""
    read, turns = as_trl_gives(prompts, completions)
    ids = None if completion_ids is None else [list(row) for row in completion_ids]
    return {**EXTRAS, **columns, "prompts": read, "completions": turns, "completion_ids": ids}


def _asked_for(function: RewardFunction, given: Given, name: str) -> Callable[[slice], tuple[list[Any], Given]]:
    """The arguments of a call on some of the samples, by the function's signature."""
    parameters = _parameters(function)
    everything = parameters is None or any(p.kind is p.VAR_KEYWORD for p in parameters)
    in_place = [p.name for p in parameters or () if p.kind is p.POSITIONAL_ONLY and p.name in given]
    named = [p.name for p in parameters or () if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    absent = [p.name for p in parameters or () if _is_needed(p) and p.name not in given]
    if absent:
        raise InputError(
            name,
            got=f"a function that asks for `{absent[0]}`",
            expected=f"only {', '.join(['prompts', 'completions', *(k for k in given if k not in _UNTOLD)])}",
            fix="name its parameters so, or give the prompts a column of that name",
        )
    by_name = [key for key in given if (everything or key in named) and key not in in_place]

    def cut(key: str, rows: slice) -> Any:
        value = given[key]
        return value if key in EXTRAS or value is None else list(value[rows])

    return lambda rows: ([cut(key, rows) for key in in_place], {key: cut(key, rows) for key in by_name})


def _parameters(function: RewardFunction) -> list[inspect.Parameter] | None:
    """The function's parameters, or None where Python cannot tell them."""
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None


def _is_needed(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind not in (
        parameter.VAR_POSITIONAL,
        parameter.VAR_KEYWORD,
    )


def _quietly(function: RewardFunction, positional: list[Any], named: Given) -> Any:
    with _process_state_kept():
        returned: Any = function(*positional, **named)
        return waited_for(returned) if isinstance(returned, Coroutine) else returned


def waited_for(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What an `async def` function gives in the end; where a loop runs already (a notebook), in a thread beside it."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    started: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []

    async def watched() -> Any:
        started.append((asyncio.get_running_loop(), cast(Any, asyncio.current_task())))
        return await coroutine

    with ThreadPoolExecutor(1) as beside:
        work = beside.submit(asyncio.run, watched())
        try:
            return work.result()
        except KeyboardInterrupt:  # it comes to this thread alone; the other would work on to the end
            for loop, task in started:
                with suppress(RuntimeError):  # it has ended this very moment
                    loop.call_soon_threadsafe(task.cancel)
            raise


@contextmanager
def _process_state_kept() -> Iterator[None]:
    """Gradients on or off and the default dtype belong to the whole process: as before, whatever happens inside."""
    torch: Any = sys.modules.get("torch")  # it takes seconds to load; before that nothing can be changed
    if torch is None:
        yield
        return
    dtype = torch.get_default_dtype()
    with torch.set_grad_enabled(torch.is_grad_enabled()):
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)


def _culprit(
    function: RewardFunction, arguments: Callable[[slice], tuple[list[Any], Given]], completions: Sequence[Text]
) -> str:
    """Which sample a function raises on, found by calling it one by one; "" when it raises on none alone."""
    for index, completion in enumerate(completions):
        try:
            _quietly(function, *arguments(slice(index, index + 1)))
        except RAISED:
            return f" on sample {index}, {_shown(completion)}"
    return ""


def _listed(values: Any, name: str, n: int) -> Sequence[Any]:
    """What a function returned, if it is one value a completion. Raises InputError otherwise."""
    kind = type(values).__name__
    try:
        # Arrays of numpy, torch, pandas and jax have it; of one number, or a table, it gives no list of numbers.
        values = values.tolist() if hasattr(values, "tolist") else values
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        raise InputError(name, got=f"a {kind} ({error})", expected=EXPECTED.format(n=n), fix=FIX) from error
    if not isinstance(values, Sequence) or isinstance(values, (str, bytes, bytearray)):
        got = "nothing (None)" if values is None else f"one {kind}, {_shown(values)}"
        raise InputError(name, got=got, expected=EXPECTED.format(n=n), fix=FIX)
    waiting = [value for value in values if isinstance(value, Coroutine)]
    for coroutine in waiting:
        coroutine.close()  # or Python warns, below the line, that nobody awaited it
    if waiting:
        fix = "let the function be `async def` and return `await asyncio.gather(...)` of them"
        raise InputError(name, got="coroutines that it did not await", expected=EXPECTED.format(n=n), fix=fix)
    if len(values) != n:
        raise InputError(name, got=f"{len(values)} rewards", expected=EXPECTED.format(n=n), fix=FIX)
    return values


def _number(value: Any, name: str, index: int, completion: Text) -> float | None:
    """One reward as a float. Raises FailedOnSample for NaN and infinity, InputError for what is no number."""
    if value is None:
        return None
    if getattr(value, "ndim", None) == 0:  # a number of numpy or torch
        value = value.item()
    place = f"for sample {index}, {_shown(completion)}"
    if not isinstance(value, numbers.Real):
        raise InputError(name, got=f"{_shown(value)} {place}", expected="a number, or None", fix=FIX)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not abs(number) <= BIGGEST:  # also NaN
        expected = f"a finite number of at most {BIGGEST:g}, or None for not applicable"
        got = f"about 1e{value.bit_length() * math.log10(2):.0f}" if isinstance(value, int) else repr(number)
        raise FailedOnSample(name, got=f"{got} {place}", expected=expected, fix=FIX)
    return number


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
