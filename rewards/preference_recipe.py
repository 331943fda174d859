"""From comparisons to a reward model that was tested on pairs it had not seen: the plan of the token recipe."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from rewards.held_out import HeldOut, join
from rewards.preference_model import PreferenceRewardModel, load_classifier
from rewards.preference_training import PreferenceSettings, fit_preferences
from rewards.preferences import Preference, fold_of_preference
from rewards.token_model import pick_device
from rewards.token_recipe import Plan, epochs_for, plan_for
from rlhf.foundation.model_pair import Model


@dataclass(frozen=True, slots=True)
class FittedPreferences:
    """A comparison reward model, what it said of held-out pairs, and how they were divided."""

    reward: PreferenceRewardModel
    held_out: HeldOut
    plan: Plan


@dataclass(frozen=True, slots=True)
class PreferenceRecipe:
    """Fits comparison reward models from one base model, which is left as it was."""

    base: Model
    tokenizer: PreTrainedTokenizerBase
    settings: PreferenceSettings
    seed: int
    quiet: bool = True

    def settings_for(self, n_pairs: int) -> PreferenceSettings:
        """The settings with the number of epochs filled in, where they leave it open with 0."""
        if self.settings.num_train_epochs:
            return self.settings
        return replace(self.settings, num_train_epochs=epochs_for(n_pairs))

    def fit(self, pairs: Sequence[Preference]) -> PreferenceRewardModel:
        """A reward model fitted to all of `pairs`."""
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)  # the head starts at random
            model = load_classifier(self.base, new_head=True)
        torch.nn.Module.to(model, pick_device(None))
        reward = PreferenceRewardModel(model, copy.deepcopy(self.tokenizer))
        fit_preferences(reward, pairs, self.settings_for(len(pairs)), seed=self.seed, quiet=self.quiet)
        return reward

    def fit_and_test(self, pairs: Sequence[Preference]) -> FittedPreferences:
        """Hold out, fit, test, and fit anew on all pairs where the plan says so."""
        plan = plan_for(len(pairs))
        folds = fold_of_preference(pairs, plan.n_folds, self.seed)
        parts: list[HeldOut] = []
        for fold in range(plan.n_held_out_folds):
            reward = self.fit([p for p, f in zip(pairs, folds, strict=True) if f != fold])
            parts.append(differences(reward, [p for p, f in zip(pairs, folds, strict=True) if f == fold]))
        if plan.refit:
            reward = self.fit(pairs)
        return FittedPreferences(reward, join(parts), plan)

    def describe(self, fitted: FittedPreferences, n_pairs: int) -> dict[str, Any]:
        """How the model was made, for reward_model.json."""
        settings = self.settings_for(n_pairs)
        return {
            "held_out": fitted.plan.describe("pair"),
            "kept_model": "fitted anew on all pairs" if fitted.plan.refit else "the one that was tested",
            "num_train_epochs": settings.num_train_epochs,
            "per_device_train_batch_size": settings.batch_size,
            "learning_rate": settings.rate_for(fitted.reward.model),
            "weight_decay": settings.weight_decay,
            "rater_noise": settings.rater_noise,
            "ties": "soft 1/2 in the loss",
            "seed": self.seed,
        }


def differences(reward: PreferenceRewardModel, pairs: Sequence[Preference]) -> HeldOut:
    """Score of the first text minus that of the second, beside the pooled preference for the first."""
    prompts = [p.prompt for p in pairs]
    scores = reward.scores(prompts * 2, [p.first for p in pairs] + [p.second for p in pairs]).double().numpy()
    targets, said = np.array([p.target for p in pairs]), np.array([p.said for p in pairs])
    return HeldOut(scores[: len(pairs)] - scores[len(pairs) :], targets, said)
