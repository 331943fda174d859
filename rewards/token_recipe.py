"""From labelled texts to a token reward model that was tested on texts it had not seen.

The recipe, chosen by `benchmarks/reward_model.py`:
1. At most FEW texts: every text is held out once (three folds), then the model is fitted on all of them.
2. At most SOME texts: one text in seven is held out, then the model is fitted anew on all of them.
3. More: one text in ten is held out and the model that was tested is the one that is kept.
4. The log-odds are divided by the temperature that suits the held-out texts best.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rewards.held_out import HeldOut, best_temperature, join
from rewards.targets import LabelledText, fold_of_text
from rewards.token_model import Target, TokenRewardModel, add_reward_tokens, rescale_log_odds
from rewards.token_training import FitSettings, fit
from rlhf.foundation.causal_lm import require_finite
from rlhf.foundation.records import SOFT_TARGETS

FEW, SOME, MOST_EPOCHS = 500, 1000, 24.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How the texts are divided: folds dealt out, how many of them are held out in turn, and whether to fit anew."""

    n_folds: int
    n_held_out_folds: int
    refit: bool

    def describe(self, unit: str) -> str:
        """What was held out, in words: `one text in 10, by text`."""
        if self.n_held_out_folds == self.n_folds:
            return f"{self.n_folds} folds, every {unit} once"
        return f"one {unit} in {self.n_folds}, by {unit}"


def plan_for(n_texts: int) -> Plan:
    """The recipe's plan for `n_texts` texts (see the top of the file)."""
    if n_texts <= FEW:
        return Plan(n_folds=3, n_held_out_folds=3, refit=True)
    if n_texts <= SOME:
        return Plan(n_folds=7, n_held_out_folds=1, refit=True)
    return Plan(n_folds=10, n_held_out_folds=1, refit=False)


def epochs_for(n_texts: int) -> float:
    """Passes over `n_texts` texts: few texts are seen more often."""
    return min(MOST_EPOCHS, 3.0 + 6000.0 / n_texts)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A reward model, what the recipe learned about it, and how it was made."""

    reward: TokenRewardModel
    held_out: HeldOut  # after the temperature
    uncalibrated: HeldOut
    temperature: float
    plan: Plan


class Recipe:
    """Fits token reward models from one base model, which is left as it was."""

    def __init__(
        self,
        base: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        target: Target,
        settings: FitSettings | None,
        seed: int,
        num_folds: int = 0,
    ) -> None:
        """`settings` with `num_train_epochs` 0 leave the epochs to `epochs_for`, `num_folds` 0 the plan to `plan_for`.

        With `num_folds` >= 2 every text is held out once, and the model is fitted on all of them in the end.
        """
        self.num_folds = num_folds
        self.base, self.tokenizer, self.target = base, tokenizer, target
        self.settings = settings or FitSettings(num_train_epochs=0)
        self.seed = seed

    def with_seed(self, seed: int) -> Recipe:
        """The same recipe with another seed."""
        return Recipe(
            self.base, self.tokenizer, target=self.target, settings=self.settings, seed=seed, num_folds=self.num_folds
        )

    def plan_for(self, n_texts: int) -> Plan:
        """The plan that was asked for, or the recipe's own."""
        return Plan(self.num_folds, self.num_folds, refit=True) if self.num_folds else plan_for(n_texts)

    def settings_for(self, n_texts: int) -> FitSettings:
        """The settings with the number of epochs filled in."""
        if self.settings.num_train_epochs:
            return self.settings
        return replace(self.settings, num_train_epochs=epochs_for(n_texts))

    def fit(self, texts: Sequence[LabelledText], on_step: Callable[[], None] = lambda: None) -> TokenRewardModel:
        """A reward model fitted to all of `texts`. Raises InputError when that leaves weights that are no numbers."""
        model, tokenizer = copy.deepcopy(self.base), copy.deepcopy(self.tokenizer)
        add_reward_tokens(model, tokenizer, self.seed)
        reward = TokenRewardModel(model, tokenizer, target=self.target)
        settings = self.settings_for(len(texts))
        fit(reward, texts, settings, seed=self.seed, on_step=on_step)
        require_finite([model], learning_rate=settings.learning_rate, weight_decay=settings.weight_decay)
        return reward

    def test(self, reward: TokenRewardModel, texts: Sequence[LabelledText]) -> HeldOut:
        """What `reward` says of `texts`."""
        log_odds = reward.log_odds([text.prompt for text in texts], [text.completion for text in texts])
        targets = np.array([text.target for text in texts])
        said = np.array([SOFT_TARGETS[text.verdict] for text in texts])
        if self.target == "negative":
            targets, said = 1 - targets, 1 - said
        return HeldOut(log_odds.double().numpy(), targets, said)

    def fit_and_test(self, texts: Sequence[LabelledText], on_step: Callable[[], None] = lambda: None) -> Fitted:
        """Hold out, fit, test, fit anew where the plan says so, and set the temperature."""
        plan = self.plan_for(len(texts))
        folds = fold_of_text(texts, plan.n_folds, self.seed)
        parts: list[HeldOut] = []
        for fold in range(plan.n_held_out_folds):
            reward = self.fit([t for t, f in zip(texts, folds, strict=True) if f != fold], on_step)
            parts.append(self.test(reward, [t for t, f in zip(texts, folds, strict=True) if f == fold]))
        if plan.refit:
            reward = self.fit(texts, on_step)
        uncalibrated = join(parts)
        temperature = best_temperature(uncalibrated)
        rescale_log_odds(reward, temperature)
        return Fitted(reward, uncalibrated.rescaled(temperature), uncalibrated, temperature, plan)

    def n_steps(self, n_texts: int) -> int:
        """Optimiser steps of `fit_and_test`, for a progress bar."""
        plan = self.plan_for(n_texts)
        n_training = n_texts - n_texts // plan.n_folds
        held_out = plan.n_held_out_folds * self.settings_for(n_training).steps(n_training)
        return held_out + (self.settings_for(n_texts).steps(n_texts) if plan.refit else 0)

    def describe(self, plan: Plan, temperature: float, n_texts: int) -> dict[str, Any]:
        """How the model was made, for reward_model.json."""
        settings = self.settings_for(n_texts)
        return {
            "held_out": plan.describe("text"),
            "kept_model": "fitted anew on all texts" if plan.refit else "the one that was tested",
            "num_train_epochs": settings.num_train_epochs,
            "per_device_train_batch_size": settings.batch_size,
            "learning_rate": settings.rate_for(self.base),
            "weight_decay": settings.weight_decay,
            "dense_weight": settings.dense_weight,
            "temperature": temperature,
            "seed": self.seed,
        }
