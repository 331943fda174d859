"""The rewards of a rollout: several functions and their weights, each called as rewards/calling.py does.

A sample that no function scored is left out of the update and counted; it never becomes 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rewards.calling import RewardFunction, as_trl_gives, call_reward
from rlhf.foundation.conversation import Text
from rlhf.foundation.errors import InputError


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
    prompts: Sequence[Text],
    completions: Sequence[str],
    completion_ids: Sequence[Sequence[int]],
    columns: Mapping[str, Sequence[Any]] | None = None,
) -> Tensor:
    """Weighted sum of the rewards, (B,) float64 on the CPU; NaN where no function applies.

    Raises InputError as `call_reward` does.
    """
    total = torch.full((len(completions),), math.nan, dtype=torch.float64)
    for function, weight in zip(functions, weights, strict=True):
        found = call_reward(function, prompts, completions, completion_ids, columns)
        values = torch.tensor([math.nan if value is None else value for value in found], dtype=torch.float64)
        applies = ~values.isnan()
        total = torch.where(applies, torch.nan_to_num(total) + weight * torch.nan_to_num(values), total)
    return total


def veto_share(functions: Sequence[Any], prompts: Sequence[Text], completions: Sequence[str]) -> float | None:
    """Share of completions that break a constraint (rewards/combination.py); None where no function has one."""
    judges = [function.violations for function in functions if hasattr(function, "violations")]
    if not judges:
        return None
    given = as_trl_gives(prompts, completions)
    broken = [any(row) for row in zip(*(judge(*given) for judge in judges), strict=True)]
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
