"""One door to every reward: a reward model's directory of any kind, a rule, a function in a file, a combination."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from rewards.by_name import load_reward_func
from rewards.calling import RewardFunction
from rewards.ensemble import RewardEnsemble
from rewards.preference_model import PreferenceRewardModel
from rewards.reward_file import read_report
from rewards.token_model import TokenRewardModel
from rlhf.foundation.errors import InputError

RewardModel = TokenRewardModel | PreferenceRewardModel | RewardEnsemble


def load_reward_model(directory: str | Path, *, device: torch.device | str | None = None) -> RewardModel:
    """The reward model in `directory`, token, preference or ensemble; `device` None takes a GPU where there is one.

    Raises InputError when the directory is missing, damaged, or no reward model.
    """
    classes: dict[str, Any] = {
        "token": TokenRewardModel,
        "ensemble": RewardEnsemble,
        "preference": PreferenceRewardModel,
    }
    reward: RewardModel = classes[read_report(Path(directory))["kind"]].from_pretrained(directory, device=device)
    reward.place = os.fspath(directory)
    return reward


def load_reward(spec: str | os.PathLike[str]) -> RewardFunction:
    """The reward that `spec` names: the directory of a reward model, a rule, FILE.py:NAME, or FILE.yaml.

    Raises InputError when it names none of them, or what it names is unusable.
    """
    name = os.fspath(spec)
    return load_reward_model(name) if os.path.isdir(name) else load_reward_func(name)


def as_reward_functions(given: Any) -> list[RewardFunction]:
    """The reward functions of a trainer's `reward_funcs`: one or several, each a function or what names one.

    Raises InputError for none at all, and for what is neither.
    """
    several = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    if not several:
        raise InputError("reward_funcs", got="none", expected=_EXPECTED, fix="say what to optimise")
    return [_as_reward_function(reward) for reward in several]


_EXPECTED = "a function, or the name of a rule, a reward model's directory, FILE.py:NAME or FILE.yaml"


def _as_reward_function(given: Any) -> RewardFunction:
    if isinstance(given, (str, os.PathLike)):
        return load_reward(given)
    if not callable(given):
        raise InputError(
            "reward_funcs", got=f"a {type(given).__name__}", expected=_EXPECTED, fix="say what to optimise"
        )
    return given  # type: ignore[no-any-return]
