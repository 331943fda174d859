"""Help while a run goes wrong, without gold: a reward that it is not paid for tells when to stop, or to hold it nearer.

A second reward (of weight 0: a model of other labels, a judge, a rule) scores the evaluation samples of every rung,
which are of the same prompts and seed. Where its course along √KL has an onset as the report finds one of gold
(inspection/overoptimisation.py: a highest point whose 95 % interval ends before the last rung, and a fall beyond
noise), the run halts with its ladder whole, or its KL coefficient doubles. What such a reward shares with the one that
is optimised, such as the mistakes of the same raters, it cannot see.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rlhf.foundation.errors import InputError
from rlhf.inspection.overoptimisation import Course, find_onset
from rlhf.ppo.config import PPOConfig
from rlhf.ppo.kl_control import KLController
from rlhf.ppo.rollout import Rollout
from rlhf.runs.ladder import Rung

LEAST_BETA = 0.02  # per nat, what a coefficient of 0 is raised to


@dataclass(slots=True)
class Guard:
    """The watched reward along the ladder; `place` is its number among the run's functions, None where none is."""

    name: str | None
    place: int | None
    action: str  # "halt" or "raise_beta"
    courses: list[dict[str, Any]] = field(default_factory=list)  # of each rung: name, √KL, both rewards of each sample
    said: dict[str, Any] | None = None  # of the rung that was saved last in this iteration

    @classmethod
    def of(cls, args: PPOConfig, names: Sequence[str]) -> Guard:
        """As the options ask. Raises InputError when no reward function has that name."""
        if args.guard is not None and args.guard not in names:
            raise InputError(
                "--guard",
                got=repr(args.guard),
                expected=f"a reward function of this run: {', '.join(names)}",
                fix="add it as a reward, with a --reward_weights of 0 where it is only to watch",
            )
        return cls(args.guard, None if args.guard is None else list(names).index(args.guard), args.guard_action)

    def read(self, rung: Rung, evaluation: Rollout, beta: KLController) -> str | None:
        """Take note of a rung; raises `beta` where asked to. Returns why the run halts, None where it goes on."""
        if self.place is None or evaluation.reward_values is None:
            return None
        watched, paid = evaluation.reward_values[self.place].tolist(), evaluation.rewards.tolist()
        rungs = {"name": rung.name, "d": math.sqrt(max(rung.kl_per_completion, 0.0)), "watched": watched, "paid": paid}
        self.courses = sorted([*self.courses, rungs], key=lambda course: float(course["d"]))
        found = find_onset(
            str(self.name), [c["name"] for c in self.courses], [self._course("watched")], self._course("paid")
        )
        self.said = {"status": found.status, "kl": found.d**2, "fall": found.fall, "fall_se": found.fall_se}
        if found.status != "onset":
            return None
        last_good = f"the rung nearest to it is {found.rung}"
        if self.action == "halt":
            return f"guard: {found.statement()} {last_good[0].upper()}{last_good[1:]}"
        beta.beta = max(2 * beta.beta, LEAST_BETA)
        self.said["beta"] = beta.beta
        return None

    def _course(self, of: str) -> Course:
        scores = [[math.nan if x is None else x for x in rung[of]] for rung in self.courses]
        return Course(np.array([rung["d"] for rung in self.courses]), np.array(scores, dtype=np.float64))

    def told(self) -> dict[str, Any] | None:
        """What the iteration's line says of it, once."""
        said, self.said = self.said, None
        return said

    # -- what a resumed run needs ----------------------------------------------------------------------------------

    def state(self) -> list[dict[str, Any]]:
        """The courses as JSON can hold them: NaN is null."""
        return [
            {**rung, **{of: [x if math.isfinite(x) else None for x in rung[of]] for of in ("watched", "paid")}}
            for rung in self.courses
        ]

    def restore(self, values: Mapping[str, Any]) -> None:
        """Continue from `state()`; a state of an earlier version has none."""
        self.courses = [
            {**rung, **{of: [math.nan if x is None else x for x in rung[of]] for of in ("watched", "paid")}}
            for rung in values.get("guard") or []
        ]
