"""Help while a run goes wrong, without gold: a reward that it is not paid for tells when to stop, to hold it nearer, or
to go back.

A second reward (of weight 0: a model of other labels, a judge, a rule), or the least that a member of an ensemble
gives, scores the evaluation samples of every rung, which are of the same prompts and seed. Where its course along √KL
has an onset as the report finds one of gold (inspection/overoptimisation.py: a highest point whose 95 % interval ends
before the last rung, and a fall beyond noise), the run halts with its ladder whole; or its KL coefficient doubles, and
is at least what each nat beyond the highest point earned of the paid reward, so that such nats do not pay; or the run
also goes back to the weights of the rung where the watched reward was highest and takes another way from there.
What such a reward shares with the one that is optimised, such as the mistakes of the same raters, it cannot see.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rlhf.foundation.errors import InputError
from rlhf.inspection.estimates import score_matrix
from rlhf.inspection.overoptimisation import Course, Onset, find_onset
from rlhf.ppo.config import PPOConfig
from rlhf.ppo.kl_control import KLController
from rlhf.ppo.landing import Landing
from rlhf.ppo.normalization import Normalization
from rlhf.ppo.reward_functions import require_scores
from rlhf.ppo.rollout import Rollout
from rlhf.ppo.state import restore_parameters, trained_parameters
from rlhf.runs.ladder import Ladder, Rung

LEAST_BETA = 0.02  # per nat, what a coefficient of 0 is raised to
MOST_TIMES_BACK = 3  # the last of them ends the run
FELL = 3.0  # standard errors of the paired difference: the rung compared with is the best of several
LOOKED = 5.0  # of the unpaired one, which is looked at in every iteration


@dataclass(slots=True)
class Guard:
    """The watched reward along the ladder; `place` is its number among `Rewards.watchable`, None where none is."""

    name: str | None
    place: int | None
    action: str  # "halt", "raise_beta" or "roll_back"
    courses: list[dict[str, Any]] = field(
        default_factory=list
    )  # of each rung, as a state keeps it: name, √KL, both rewards
    said: dict[str, Any] = field(default_factory=dict)  # of what was read or looked at in this iteration
    best: str | None = None  # with "roll_back" the rung whose weights are kept: the watched reward is highest there
    weights: dict[str, Tensor] | None = None  # the trained ones of it
    times_back: int = 0
    goes_back: bool = False  # before this iteration's update

    @classmethod
    def of(cls, args: PPOConfig, names: Sequence[str]) -> Guard:
        """As the options ask; `names` are what can be watched. Raises InputError on another name."""
        if args.guard is not None and args.guard not in names:
            raise InputError(
                "--guard",
                got=repr(args.guard),
                expected=f"a reward of this run: {', '.join(names)}",
                fix="add it as a reward, with a --reward_weights of 0 where it is only to watch",
            )
        return cls(args.guard, None if args.guard is None else list(names).index(args.guard), args.guard_action)

    def read(
        self,
        rung: Rung,
        evaluation: Rollout,
        beta: KLController,
        learner: nn.Module,
        constants: Normalization | None = None,
        ends: str | None = None,
    ) -> str | None:
        """Take note of a rung; raises `beta` where asked to, and may then want to go back (`goes_back`).

        `constants` are those that beta is weighed against; `ends` is why the run ends at this rung anyhow. Returns why
        it ends, None where it goes on. Raises InputError where what is watched has no score.
        """
        if self.place is None:
            return ends
        scores = {"watched": self._watched(evaluation), "paid": evaluation.rewards}
        require_scores(~scores["watched"].isnan(), f"what --guard watches, {self.name}, on rung {rung.name}")
        of_rung = {of: [x if math.isfinite(x) else None for x in values.tolist()] for of, values in scores.items()}
        root = math.sqrt(max(rung.kl_per_completion, 0.0))
        self.courses = [*self.courses, {"of": self.name, "name": rung.name, "d": root, **of_rung}]
        if self.action == "roll_back" and self._highest()["name"] == rung.name:
            self.best, self.weights = rung.name, trained_parameters(learner)
        along = sorted(self.courses, key=lambda one: float(one["d"]))
        found = find_onset(
            str(self.name), [one["name"] for one in along], [course(along, "watched")], course(along, "paid")
        )
        self.said = {"status": found.status, "kl": found.d**2, "fall": found.fall, "fall_se": found.fall_se}
        if ends is not None:
            return self._end(ends)
        return self._act(found, beta, constants) if found.status == "onset" else None

    def _end(self, ends: str) -> str:
        """Why the run ends, and where the watched reward was higher than it is at the last rung."""
        best, last = self._highest(), self.courses[-1]
        lost = np.subtract(*score_matrix([best["watched"], last["watched"]]))
        lost = lost[np.isfinite(lost)]
        error = lost.std(ddof=1) / math.sqrt(lost.size) if lost.size > 1 else math.inf
        if not lost.mean() > FELL * error:
            return ends
        return f"{ends}; {self.name} is {lost.mean():.3f} ± {error:.3f} lower than at {best['name']}"

    def look(self, rollout: Rollout, beta: KLController) -> str | None:
        """Between rungs, of a run that has gone back: a policy that is held at one KL passes no rung, and may get worse
        there. Goes back where the watched reward of the rollout is below the best rung's; returns why the run ends."""
        if self.place is None or not self.times_back:
            return None
        then = score_matrix([self._highest()["watched"]])[0]
        now = self._watched(rollout).numpy()
        errors = [np.nanstd(x, ddof=1) / math.sqrt(np.isfinite(x).sum()) for x in (then, now)]
        lost, error = np.nanmean(then) - np.nanmean(now), math.hypot(*errors)
        if not lost > LOOKED * error:
            return None
        self.said = {"status": "fell", "fall": float(lost), "fall_se": float(error)}
        return self._go_back(f"{self.name} fell by {lost:.3f} ± {error:.3f} since {self.best}.", 2 * beta.beta, beta)

    def _watched(self, rollout: Rollout) -> Tensor:
        """The watched reward of each completion, (B,)."""
        assert self.place is not None
        assert rollout.reward_values is not None  # a rollout that was scored
        assert rollout.members is not None
        watched: Tensor = torch.cat([rollout.reward_values, rollout.members[:, 0]])[self.place]
        return watched

    def _act(self, found: Onset, beta: KLController, constants: Normalization | None) -> str | None:
        if self.action == "halt":
            return f"guard: {found.statement()} The rung nearest to it is {found.rung}"
        enough = max(2 * beta.beta, self._earned() / (constants.scale if constants else 1.0), LEAST_BETA)
        if self.action == "roll_back":
            return self._go_back(found.statement(), enough, beta)
        self._hold(enough, beta)
        return None

    def _go_back(self, why: str, enough: float, beta: KLController) -> str | None:
        if self.best != (highest := self._highest()["name"]):
            return f"guard: {why} The weights of {highest}, before --guard_action roll_back, were not kept"
        self.goes_back, self.said["back_to"] = True, self.best
        if self.times_back + 1 >= MOST_TIMES_BACK:
            return f"guard: {why} The run went back {MOST_TIMES_BACK} times and ends at {self.best}"
        self._hold(enough, beta)
        return None

    def _hold(self, enough: float, beta: KLController) -> None:
        beta.hold(enough)
        self.said["beta"] = enough

    def _earned(self) -> float:
        """What the nats from the rung where the watched reward is highest to the latest one earned of the paid reward,
        each: at such a coefficient they do not pay."""
        best, last = self._highest(), self.courses[-1]
        nats = float(last["d"]) ** 2 - float(best["d"]) ** 2
        gained = np.nanmean(score_matrix([last["paid"]])) - np.nanmean(score_matrix([best["paid"]]))
        return float(gained) / nats if nats > 0 else 0.0

    def _highest(self) -> dict[str, Any]:
        """The rung at which the watched reward's mean is highest."""
        means = np.nanmean(score_matrix([one["watched"] for one in self.courses]), axis=1)
        return self.courses[int(np.argmax(means))]

    def go_back(self, learner: nn.Module, ladder: Ladder, landing: Landing) -> None:
        """Give `learner` the kept weights, and end the ladder at their rung; what is known of the way is forgotten."""
        assert self.weights is not None  # what goes_back asks for
        assert self.best is not None
        restore_parameters(learner, self.weights)
        names = [one["name"] for one in self.courses]
        self.courses = self.courses[: names.index(self.best) + 1]
        ladder.cut_after(self.best)
        landing.forget()
        self.times_back += 1

    def why_left(self) -> str | None:
        """Why rungs were left out of the ladder in this iteration, asked once; None where none were."""
        went, self.goes_back = self.goes_back, False
        return f"the guard took the run back to {self.best}" if went else None

    # -- what a resumed run needs ----------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything but the weights."""
        return {"courses": self.courses, "best": self.best, "times_back": self.times_back}

    def tensors(self) -> dict[str, Tensor]:
        """The weights, "NAME/best"."""
        return {f"{name}/best": tensor for name, tensor in (self.weights or {}).items()}

    def restore(self, state: Mapping[str, Any] | list[Any] | None, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what a state has; a run may go on with another guard, or none, which begins anew.

        States of earlier versions have the courses alone, or nothing.
        """
        known: Mapping[str, Any] = state if isinstance(state, Mapping) else {"courses": state or []}
        self.courses = [rung for rung in known["courses"] if rung["of"] == self.name]
        if self.courses and self.action == "roll_back":
            self.best, self.times_back = known.get("best"), known.get("times_back", 0)
            self.weights = {name.removesuffix("/best"): x for name, x in tensors.items() if name.endswith("/best")}

    def told(self) -> dict[str, Any] | None:
        """What the iteration's line says of it, once."""
        said, self.said = self.said, {}
        return said or None


def course(rungs: Sequence[Mapping[str, Any]], of: str) -> Course:
    """One reward along rungs in the order of √KL."""
    return Course(np.array([rung["d"] for rung in rungs]), score_matrix([rung[of] for rung in rungs]))
