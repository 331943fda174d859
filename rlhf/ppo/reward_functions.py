"""The rewards of a rollout: several functions and their weights, each called as rewards/calling.py does, less what an
ending costs.

A sample that no function scored is left out of the update and counted; it never becomes 0.

Shapes: F functions, E of them ensembles, B completions.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rewards.calling import AT_ONCE, RewardFunction, as_trl_gives, call_rewards, reward_name
from rlhf.foundation.conversation import Text
from rlhf.foundation.errors import InputError
from rlhf.ppo.config import PPOConfig
from rlhf.ppo.ending_costs import EndingCosts


@dataclass(frozen=True, slots=True)
class Rewards:
    """The functions of a run with their weights, what an ending costs, and what else the functions are given."""

    functions: Sequence[RewardFunction]
    weights: Sequence[float]
    costs: EndingCosts = field(default_factory=EndingCosts)
    at_once: int = AT_ONCE
    extras: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, functions: Sequence[RewardFunction], args: PPOConfig, extras: Mapping[str, Any] | None = None
    ) -> Rewards:
        """Those of a run's options. Raises InputError on another number of weights than functions."""
        weights = weights_of(functions, args.reward_weights)
        return cls(functions, weights, EndingCosts.of(args), args.async_reward_batch_size, extras or {})

    def facts(self) -> dict[str, Any]:
        """What run.json says of them."""
        return {"reward_functions": self.names, "reward_weights": list(self.weights)}

    @property
    def names(self) -> list[str]:
        """A name for each function, as metrics have it; of several of one name the later ones are numbered."""
        seen: Counter[str] = Counter()
        names = []
        for name in map(reward_name, self.functions):
            seen[name] += 1
            names.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
        return names

    def values(
        self,
        prompts: Sequence[Text],
        completions: Sequence[str],
        completion_ids: Sequence[Sequence[int]],
        columns: Mapping[str, Sequence[Any]] | None = None,
    ) -> Tensor:
        """What each function gives, (F, B) float64 on the CPU; NaN where it does not apply.

        Raises InputError as `call_reward` does.
        """
        given = {**(columns or {}), **self.extras}
        found = call_rewards(self.functions, prompts, completions, completion_ids, given, at_once=self.at_once)
        rows = [[math.nan if value is None else value for value in row] for row in found]
        return torch.tensor(rows, dtype=torch.float64).reshape(len(self.functions), len(completions))

    @property
    def ensembles(self) -> dict[str, Any]:
        """Those of the functions that are several models (rewards/ensemble.py), by name."""
        named = zip(self.names, self.functions, strict=True)
        return {name: function for name, function in named if hasattr(function, "worst_and_spread")}

    @property
    def watchable(self) -> list[str]:
        """What a guard can watch: each function, and of each ensemble the member that gives least."""
        return [*self.names, *(f"{name}/worst_member" for name in self.ensembles)]

    def members(self, prompts: Sequence[Text], completions: Sequence[str]) -> Tensor:
        """Of each ensemble what its worst member gives and how far the members are apart, (E, 2, B) float64, CPU."""
        given = as_trl_gives(prompts, completions)
        found = [ensemble.worst_and_spread(*given).double().cpu() for ensemble in self.ensembles.values()]
        return torch.stack(found) if found else torch.zeros(0, 2, len(completions), dtype=torch.float64)

    def weighted(self, values: Tensor) -> Tensor:
        """Σ_f w_f values_f over the functions that apply, (B,) from (F, B); NaN where none does."""
        weights = torch.tensor(self.weights, dtype=values.dtype)[:, None]
        total = (weights * values.nan_to_num()).sum(0)
        return torch.where(values.isnan().all(0), math.nan, total)

    def total(self, values: Tensor, ended: Tensor, lengths: Tensor) -> Tensor:
        """The reward that PPO is given, (B,): the weighted sum less what the ending costs.

        `ended` (B,) bool, `lengths` (B,) in tokens, the end token included.
        """
        return self.weighted(values) - self.costs(ended, lengths)


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
