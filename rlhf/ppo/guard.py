"""Help while a run goes wrong, without gold: a reward that it is not paid for tells when to stop, or to hold it nearer.

A second reward (of weight 0: a model of other labels, a judge, a rule) scores the evaluation samples of every rung,
which are of the same prompts and seed. Where its course along √KL has an onset as the report finds one of gold
(inspection/overoptimisation.py: a highest point whose 95 % interval ends before the last rung, and a fall beyond
noise), the run halts with its ladder whole, or its KL coefficient doubles. What such a reward shares with the one that
is optimised, such as the mistakes of the same raters, it cannot see.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rlhf.foundation.errors import InputError
from rlhf.inspection.estimates import score_matrix
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
    courses: list[dict[str, Any]] = field(
        default_factory=list
    )  # of each rung, as a state keeps it: name, √KL, both rewards
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
        scores = {"watched": evaluation.reward_values[self.place], "paid": evaluation.rewards}
        of_rung = {of: [x if math.isfinite(x) else None for x in values.tolist()] for of, values in scores.items()}
        root = math.sqrt(max(rung.kl_per_completion, 0.0))
        self.courses = sorted(
            [*self.courses, {"of": self.name, "name": rung.name, "d": root, **of_rung}], key=lambda one: float(one["d"])
        )
        names = [course["name"] for course in self.courses]
        found = find_onset(str(self.name), names, [self._course("watched")], self._course("paid"))
        self.said = {"status": found.status, "kl": found.d**2, "fall": found.fall, "fall_se": found.fall_se}
        if found.status != "onset":
            return None
        if self.action == "halt":
            return f"guard: {found.statement()} The rung nearest to it is {found.rung}"
        beta.beta = max(2 * beta.beta, LEAST_BETA)
        self.said["beta"] = beta.beta
        return None

    def _course(self, of: str) -> Course:
        return Course(np.array([rung["d"] for rung in self.courses]), score_matrix([rung[of] for rung in self.courses]))

    def restore(self, courses: Sequence[dict[str, Any]]) -> None:
        """Go on from what a state has; a run may go on with another guard, or none, which begins anew."""
        self.courses = [rung for rung in courses if rung["of"] == self.name]

    def told(self) -> dict[str, Any] | None:
        """What the iteration's line says of it, once."""
        said, self.said = self.said, None
        return said
