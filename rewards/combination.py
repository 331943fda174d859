"""Several rewards as one: a weighted sum, and constraints whose breaking costs a fixed penalty.

A completion that breaks a constraint gets `penalty` and nothing else (Ziegler et al. 2019 give -1 for a missing full
stop); how many do is counted, since a policy may rather pay than obey.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rewards.calling import call_reward
from rewards.rules import RewardFunc


@dataclass(frozen=True, slots=True)
class Constraint:
    """`at_least` ≤ reward ≤ `at_most`; a completion that the reward does not score breaks nothing."""

    reward: RewardFunc
    at_least: float
    at_most: float


class CombinedReward:
    """A reward function: the weighted sum of its parts, or `penalty` where a constraint is broken.

    None where no part applies to a completion, as in TRL; a part that does not apply adds nothing.
    """

    def __init__(
        self, name: str, parts: Sequence[tuple[RewardFunc, float]], constraints: Sequence[Constraint], penalty: float
    ) -> None:
        self.__name__ = name
        self.parts, self.constraints, self.penalty = list(parts), list(constraints), penalty

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        **kwargs: Any,
    ) -> list[float | None]:
        """One reward a completion, in the order given."""
        scores = [
            (weight, call_reward(part, prompts, completions, completion_ids, kwargs)) for part, weight in self.parts
        ]
        rewards: list[float | None] = []
        for index in range(len(completions)):
            known = [weight * value for weight, values in scores if (value := values[index]) is not None]
            rewards.append(sum(known) if known else None)
        broken = self.violations(prompts, completions)
        return [self.penalty if veto else reward for veto, reward in zip(broken, rewards, strict=True)]

    def violations(self, prompts: Sequence[Any], completions: Sequence[Any]) -> list[bool]:
        """Whether each completion breaks a constraint; constraints judge prompt and completion, no other column."""
        broken = [False] * len(completions)
        for constraint in self.constraints:
            values = call_reward(constraint.reward, prompts, completions)
            for index, value in enumerate(values):
                if value is not None and not constraint.at_least <= value <= constraint.at_most:
                    broken[index] = True
        return broken
