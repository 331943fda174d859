"""Several rewards as one, from a YAML file: a weighted sum, and constraints whose breaking costs a fixed penalty.

    weights: {full_stop: 1.0, my_rewards.py:shout: 0.5}
    constraints:
      - {reward: full_stop_at_16_to_24, at_least: 1}
      - {reward: length, at_most: 40}
    penalty: -1.0

A completion that breaks a constraint gets `penalty` and nothing else (Ziegler et al. 2019 give -1 for a missing full
stop); how many do is counted, since a policy may rather pay than obey.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewards.calling import call_reward
from rewards.rules import RewardFunc, load_reward_func
from rlhf.foundation.errors import InputError
from rlhf.foundation.yaml_files import read_yaml


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


def read_combination(path: Path) -> CombinedReward:
    """The combination in a YAML file, named by the file. Raises InputError naming the key that is wrong."""
    content = read_yaml(path, f"reward file {path}")
    if not isinstance(content.get("weights"), dict) or not content["weights"]:
        raise _refuse(path, "no weights", "weights: {REWARD: WEIGHT, ...}", "name at least one reward and its weight")
    unknown = sorted(set(content) - {"weights", "constraints", "penalty"})
    if unknown:
        raise _refuse(path, f"the key {unknown[0]}", "weights, constraints, penalty", "check its spelling")
    parts = [(_load(path, str(spec)), _number(path, spec, w)) for spec, w in content["weights"].items()]
    rows = content.get("constraints") or []
    if not isinstance(rows, list):
        raise _refuse(path, f"constraints: {rows}", "a list of constraints", "write it as the example has it")
    constraints = [_constraint(path, row) for row in rows]
    return CombinedReward(path.stem, parts, constraints, _number(path, "penalty", content.get("penalty", -1.0)))


def _constraint(path: Path, row: Any) -> Constraint:
    if not isinstance(row, dict) or "reward" not in row or not set(row) <= {"reward", "at_least", "at_most"}:
        raise _refuse(
            path, f"the constraint {row}", "reward with at_least, at_most or both", "write it as the example has it"
        )
    low = _number(path, "at_least", row.get("at_least", -math.inf))
    high = _number(path, "at_most", row.get("at_most", math.inf))
    if len(row) == 1 or low > high:
        raise _refuse(path, f"the constraint {row}", "at_least, at_most or both, in this order", "give a bound")
    return Constraint(_load(path, str(row["reward"])), low, high)


def _load(path: Path, spec: str) -> RewardFunc:
    """A part of the combination in `path`; a file that is not in the working directory may stand beside it."""
    file, colon, name = spec.rpartition(":")
    beside = path.parent / file
    return load_reward_func(f"{beside}:{name}" if colon and not Path(file).exists() and beside.exists() else spec)


def _number(path: Path, name: object, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise _refuse(path, f"{name}: {value}", "a number", "mend the value")
    return float(value)


def _refuse(path: Path, got: str, expected: str, fix: str) -> InputError:
    return InputError(f"reward file {path}", got=got, expected=expected, fix=fix)
