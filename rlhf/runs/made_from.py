"""The names that a trainer was made from, so that `rlhf reproduce` can make it again, and what no name brings back."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from rewards.calling import reward_name
from rlhf.foundation.options import Options


def made_from(args: Options, model: Any, reward_funcs: Any, others: Mapping[str, Any]) -> dict[str, Any] | None:
    """The names that `PPOTrainer` was given from Python: `model_name_or_path`, `reward_func` (in their order), and
    `in_memory`: the arguments that are objects. None for a run of the command line, whose options name everything.

    `others` are its further arguments, by name; those that are None or empty count as not given.
    """
    if hasattr(args, "model_name_or_path"):
        return None
    one = isinstance(reward_funcs, (str, os.PathLike)) or not isinstance(reward_funcs, Sequence)
    rewards = [reward_funcs] if one else list(reward_funcs)
    objects = [f"the reward function {reward_name(reward)}" for reward in rewards if _name(reward) is None]
    objects += ["the model"] if _name(model) is None else []
    return {
        "model_name_or_path": _name(model),
        "reward_func": [name for reward in rewards if (name := _name(reward)) is not None],
        "in_memory": [
            *objects,
            *(name for name, value in others.items() if value is not None and (name != "callbacks" or value)),
        ],
    }


def _name(given: Any) -> str | None:
    return os.fspath(given) if isinstance(given, (str, os.PathLike)) else None
