"""Rewards: rules, reward models fitted to labels or comparisons, ensembles, combinations. Names load on first use.

fitted = rewards.fit(model, labels=labels, samples=unlabelled)
rewards.load("full_stop"), rewards.load("runs/reward_model"), rewards.load("my_rewards.py:shout")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlhf.foundation.lazy_names import lazily

if TYPE_CHECKING:
    from rewards.ensemble import RewardEnsemble
    from rewards.loading import load_reward as load
    from rewards.preference_model import PreferenceRewardModel
    from rewards.steps.fit import fit
    from rewards.token_model import TokenRewardModel

__all__ = ["PreferenceRewardModel", "RewardEnsemble", "TokenRewardModel", "fit", "load"]

__getattr__ = lazily(
    "rewards",
    {
        "PreferenceRewardModel": "rewards.preference_model",
        "RewardEnsemble": "rewards.ensemble",
        "TokenRewardModel": "rewards.token_model",
        "fit": "rewards.steps.fit",
        "load": "rewards.loading:load_reward",
    },
)


def __dir__() -> list[str]:
    return sorted(__all__)
