"""One door to every reward: a directory of any kind."""

from __future__ import annotations

from pathlib import Path

import torch

from rewards.ensemble import RewardEnsemble
from rewards.preference_model import PreferenceRewardModel
from rewards.reward_file import read_kind
from rewards.token_model import TokenRewardModel

RewardModel = TokenRewardModel | PreferenceRewardModel | RewardEnsemble


def load_reward_model(directory: str | Path, *, device: torch.device | str | None = None) -> RewardModel:
    """The reward model in `directory`, token, preference or ensemble; `device` None takes a GPU where there is one.

    Raises InputError when the directory is missing, damaged, or no reward model.
    """
    kind = read_kind(Path(directory))
    if kind == "token":
        return TokenRewardModel.from_pretrained(directory, device=device)
    if kind == "ensemble":
        return RewardEnsemble.from_pretrained(directory, device=device)
    return PreferenceRewardModel.from_pretrained(directory, device=device)
