"""Rewards: rules, reward models fitted to labels or comparisons, classifiers, combinations. Names load on first use.

fitted = rewards.fit(model, labels=labels, samples=unlabelled)
rewards.load("full_stop"), rewards.load("runs/reward_model"), rewards.load("my_rewards.py:shout")
rewards.load("lab/sentiment:POSITIVE"), rewards.load(classifier, processing_class=tokenizer)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlhf.foundation.lazy_names import lazily

if TYPE_CHECKING:
    from rewards.classifier import ClassifierReward
    from rewards.ensemble import RewardEnsemble
    from rewards.judging.reward import judge
    from rewards.loading import load_reward as load
    from rewards.preference_model import PreferenceRewardModel
    from rewards.steps.fit import fit
    from rewards.token_model import TokenRewardModel
    from rewards.words_model import WordsReward

__all__ = [
    "ClassifierReward",
    "PreferenceRewardModel",
    "RewardEnsemble",
    "TokenRewardModel",
    "WordsReward",
    "fit",
    "judge",
    "load",
]

__getattr__ = lazily(
    "rewards",
    {
        "ClassifierReward": "rewards.classifier",
        "PreferenceRewardModel": "rewards.preference_model",
        "RewardEnsemble": "rewards.ensemble",
        "TokenRewardModel": "rewards.token_model",
        "WordsReward": "rewards.words_model",
        "fit": "rewards.steps.fit",
        "judge": "rewards.judging.reward",
        "load": "rewards.loading:load_reward",
    },
)


def __dir__() -> list[str]:
    return sorted(__all__)
