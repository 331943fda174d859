"""Calls reward functions as TRL does and refuses what would silently become a wrong number.

`f(prompts, completions, completion_ids, **kwargs) -> list[float | None]`; None means not applicable to that sample.
A sample that no function scored is left out of the update and counted; it never becomes 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rlhf.foundation.conversation import assistant_turn
from rlhf.foundation.errors import InputError

RewardFunction = Callable[..., Sequence[float | None]]


def reward_name(function: RewardFunction) -> str:
    """The stable name a reward is logged under."""
    return str(getattr(function, "__name__", type(function).__name__))


def weights_of(functions: Sequence[RewardFunction], given: Sequence[float]) -> list[float]:
    """One weight a function, all 1 where none is given. Raises InputError on another number of them."""
    if given and len(given) != len(functions):
        raise InputError(
            "--reward_weights",
            got=f"{len(given)} weights",
            expected=f"{len(functions)}, one a reward function",
            fix="give one a function",
        )
    return list(given) or [1.0] * len(functions)


def score(
    functions: Sequence[RewardFunction],
    weights: Sequence[float],
    prompts: Sequence[Any],
    completions: Sequence[Any],
    completion_ids: Sequence[Sequence[int]],
    columns: Mapping[str, Sequence[Any]] | None = None,
) -> Tensor:
    """Weighted sum of the rewards, (B,) float64 on the CPU; NaN where no function applies.

    Completions are texts; where the prompt is a conversation the function gets [{"role": "assistant", "content": ...}],
    as TRL gives it. Raises InputError naming function and sample when a function raises, returns the wrong number of
    rewards, or returns one that is no finite number.
    """
    completions = [
        text if isinstance(prompt, str) else assistant_turn(text)
        for prompt, text in zip(prompts, completions, strict=True)
    ]
    total = torch.full((len(completions),), float("nan"), dtype=torch.float64)
    for function, weight in zip(functions, weights, strict=True):
        values = _call(function, prompts, completions, completion_ids, columns or {})
        applies = ~values.isnan()
        total = torch.where(applies, torch.nan_to_num(total) + weight * torch.nan_to_num(values), total)
    return total


def veto_share(functions: Sequence[RewardFunction], prompts: Sequence[Any], completions: Sequence[Any]) -> float | None:
    """Share of completions that break a constraint (rewards/combination.py); None where no function has one."""
    judges = [function.violations for function in functions if hasattr(function, "violations")]
    if not judges:
        return None
    broken = [any(row) for row in zip(*(judge(prompts, completions) for judge in judges), strict=True)]
    return sum(broken) / len(broken)


def require_scores(scored: Tensor, what: str) -> None:
    """Raise InputError when fewer than two completions have a reward, so that there is no mean with an error."""
    count = int(scored.sum())
    if count < 2:
        raise InputError(
            "reward",
            got=f"{count} of {len(scored)} completions scored in {what}",
            expected="at least 2",
            fix="let the reward functions return a number more often, then --resume --accept_changes",
        )


def _call(
    function: RewardFunction,
    prompts: Sequence[Any],
    completions: Sequence[Any],
    completion_ids: Sequence[Sequence[int]],
    columns: Mapping[str, Sequence[Any]],
) -> Tensor:
    name = reward_name(function)

    def call(rows: slice) -> Sequence[float | None]:
        kept = {key: list(values[rows]) for key, values in columns.items()}
        ids = [list(row) for row in completion_ids[rows]]
        return function(prompts=list(prompts[rows]), completions=list(completions[rows]), completion_ids=ids, **kept)

    try:
        values = call(slice(None))
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # sys.exit() in a function must not end a run as if it were done
        raise InputError(
            f"reward function {name}",
            got=f"{type(error).__name__}: {error}{_culprit(call, completions)}",
            expected="a list of numbers",
            fix="mend the function; the run can be continued with --resume --accept_changes",
        ) from error
    if values is None or len(values) != len(completions):
        raise InputError(
            f"reward function {name}",
            got="nothing" if values is None else f"{len(values)} rewards",
            expected=f"{len(completions)}, one a completion",
            fix="mend the function, then --resume --accept_changes",
        )
    for value, completion in zip(values, completions, strict=True):
        if value is not None and not math.isfinite(value):
            raise InputError(
                f"reward function {name}",
                got=f"{value} for {_shown(completion)}",
                expected="a finite number, or None for not applicable",
                fix="mend the function, then --resume --accept_changes",
            )
    return torch.tensor([math.nan if value is None else float(value) for value in values], dtype=torch.float64)


def _culprit(call: Callable[[slice], object], completions: Sequence[Any]) -> str:
    """Which sample a function raises on, found by calling it one by one; "" when it raises on none alone."""
    for index, completion in enumerate(completions):
        try:
            call(slice(index, index + 1))
        except (Exception, SystemExit):
            return f" on sample {index}, {_shown(completion)}"
    return ""


def _shown(completion: object) -> str:
    text = repr(completion)
    return text if len(text) <= 60 else text[:57] + "..."
