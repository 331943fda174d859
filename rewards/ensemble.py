"""Several reward models as one: where they disagree, the policy should not believe any of them.

Coste et al. 2023, "Reward Model Ensembles Help Mitigate Overoptimization", section 4: k full copies that differ in
their bootstrap of the labels and in their seed, aggregated by

    mean:     R = (1/k) Σ_i r_i                                      (eq. 3)
    worst:    R = min_i r_i                                          (worst-case optimisation, eq. 4)
    penalty:  R = mean - λ (1/k) Σ_i (r_i - mean)²                   (uncertainty-weighted optimisation, eq. 5)

Shapes: K members, N texts.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from rewards.held_out import HeldOut, best_temperature
from rewards.reward_file import REWARD_FILE, read_reward_file, write_reward_file
from rewards.targets import LabelledText, fold_of_text
from rewards.token_model import TokenRewardModel, rescale_log_odds
from rewards.token_recipe import Plan, Recipe
from rlhf.foundation.conversation import Text
from rlhf.foundation.digests import value_digest
from rlhf.foundation.errors import InputError
from rlhf.foundation.model_directory import replacing_directory
from rlhf.foundation.tables import Report

Aggregate = Literal["mean", "worst", "penalty"]
AGGREGATES: tuple[Aggregate, ...] = get_args(Aggregate)


def aggregate(rewards: Tensor, how: Aggregate, penalty: float) -> Tensor:
    """The ensemble's reward (N,) from its members' rewards (K, N); `penalty` is λ (per unit of reward)."""
    if how == "worst":
        return rewards.min(0).values
    mean = rewards.mean(0)
    return mean if how == "mean" else mean - penalty * rewards.var(0, unbiased=False)


class RewardEnsemble:
    """Token reward models towards one target, aggregated; also a reward function in TRL's signature."""

    def __init__(
        self,
        members: Sequence[TokenRewardModel],
        *,
        how: Aggregate = "mean",
        penalty: float = 1.0,
        report: dict[str, Any] | None = None,
    ) -> None:
        """Raises InputError on fewer than two members, members of different targets, or an unknown `how`."""
        targets = {member.target for member in members}
        if len(members) < 2 or len(targets) != 1:
            raise InputError(
                "reward ensemble",
                got=f"{len(members)} members towards {', '.join(sorted(targets)) or 'nothing'}",
                expected="at least two members towards one target",
                fix="make it anew with `rlhf reward --ensemble 4`",
            )
        if how not in AGGREGATES or penalty < 0:
            raise InputError(
                "reward ensemble",
                got=f"aggregate {how!r}, penalty {penalty}",
                expected=f"one of {', '.join(AGGREGATES)}, and a penalty of at least 0",
                fix="change it",
            )
        self.members, self.how, self.penalty = list(members), how, penalty
        self.target = members[0].target
        self.encoder = members[0].encoder
        self.report = Report(report or {})
        self.place: str | None = None
        self._latest: tuple[list[Text], list[Text], Tensor] | None = None  # texts and what the members gave them
        self.__name__ = f"{how}_log_p_{self.target}"

    @classmethod
    def from_pretrained(cls, directory: str | Path, *, device: torch.device | str | None = None) -> RewardEnsemble:
        """Load what `rlhf reward --ensemble` wrote. Raises InputError as TokenRewardModel.from_pretrained does."""
        report = read_reward_file(Path(directory), kind="ensemble")
        members = [
            TokenRewardModel.from_pretrained(Path(directory) / name, device=device) for name in report["members"]
        ]
        return cls(members, how=report["aggregate"], penalty=report["penalty"], report=report)

    def save(self, directory: Path, report: dict[str, Any]) -> Path:
        """Write every member into a directory of its own and reward_model.json above them, atomically."""
        self.describe(report)
        with replacing_directory(directory, marker=REWARD_FILE) as temporary:
            for name, member in zip(self.report["members"], self.members, strict=True):
                member.save(temporary / name, {**member.report, "kind": "token", "target": member.target})
            self.report = write_reward_file(temporary, self.report)
        return directory

    def describe(self, report: Mapping[str, Any]) -> None:
        """Take a report as one's own, without writing it."""
        names = [f"member-{i}" for i in range(len(self.members))]
        own = {"kind": "ensemble", "target": self.target, "members": names, "aggregate": self.how}
        self.report = Report({**report, **own, "penalty": self.penalty})

    def identity(self) -> list[Any]:
        """What its numbers depend on, for a run's provenance."""
        return [self.how, self.penalty, [value_digest(member.identity()) for member in self.members]]

    def member_rewards(self, prompts: Sequence[Text], completions: Sequence[Text]) -> Tensor:
        """log P(target) of each member, (K, N); kept of the latest texts, which are often asked about again."""
        texts = copy.deepcopy((list(prompts), list(completions)))  # messages may be changed in place
        if self._latest is None or self._latest[:2] != texts:
            self._latest = (*texts, torch.stack([member.log_probs(*texts) for member in self.members]))
        return self._latest[2]

    def worst_and_spread(self, prompts: Sequence[Text], completions: Sequence[Text]) -> Tensor:
        """The least of the members' rewards and their population standard deviation, (2, N), in nats."""
        rewards = self.member_rewards(prompts, completions)
        return torch.stack([rewards.min(0).values, rewards.std(0, unbiased=False)])

    def disagreement(self, prompts: Sequence[Text], completions: Sequence[Text]) -> list[float]:
        """Standard deviation of P(target) over the members, 0 to 1/2: what to label next where it is largest."""
        probabilities = self.member_rewards(prompts, completions).exp()
        return [float(value) for value in probabilities.std(0, unbiased=False).tolist()]

    def __call__(
        self,
        prompts: Sequence[Text],
        completions: Sequence[Text],
        completion_ids: Sequence[Sequence[int]] | None = None,
        **kwargs: Any,
    ) -> list[float]:
        """TRL's reward function: the aggregate, in nats."""
        rewards = aggregate(self.member_rewards(prompts, completions), self.how, self.penalty)
        return [float(value) for value in rewards.tolist()]


def fit_ensemble(
    recipe: Recipe, texts: Sequence[LabelledText], size: int, on_step: Callable[[], None] = lambda: None
) -> list[TokenRewardModel]:
    """`size` models by bootstrap and seed: member i is fitted to texts drawn with replacement, with seed + i.

    A text drawn m times weighs m times its labels.
    """
    members = []
    for i in range(size):
        rng = random.Random(f"bootstrap {recipe.seed} {i}")
        drawn: dict[int, int] = {}
        for row in rng.choices(range(len(texts)), k=len(texts)):
            drawn[row] = drawn.get(row, 0) + 1
        sample = [replace(texts[row], n_labels=texts[row].n_labels * times) for row, times in sorted(drawn.items())]
        members.append(recipe.with_seed(recipe.seed + i).fit(sample, on_step))
    return members


@dataclass(frozen=True, slots=True)
class FittedEnsemble:
    """The members, what they say together of the held-out texts, and their common temperature."""

    members: list[TokenRewardModel]
    held_out: HeldOut  # after the temperature
    uncalibrated: HeldOut
    temperature: float
    plan: Plan


def fit_and_test_ensemble(
    recipe: Recipe, texts: Sequence[LabelledText], size: int, on_step: Callable[[], None] = lambda: None
) -> FittedEnsemble:
    """One text in ten is held out from every member; one temperature for all suits the mean of their log-odds."""
    plan = Plan(n_folds=10, n_held_out_folds=1, refit=False)
    folds = fold_of_text(texts, plan.n_folds, recipe.seed)
    members = fit_ensemble(recipe, [t for t, f in zip(texts, folds, strict=True) if f != 0], size, on_step)
    parts = [recipe.test(member, [t for t, f in zip(texts, folds, strict=True) if f == 0]) for member in members]
    together = HeldOut(np.mean([part.log_odds for part in parts], axis=0), parts[0].targets, parts[0].said)
    temperature = best_temperature(together)
    for member in members:
        rescale_log_odds(member, temperature)
    return FittedEnsemble(members, together.rescaled(temperature), together, temperature, plan)
