"""One door to every reward: a reward model's directory of any kind, a classifier of the field, a rule, a function in a
file, a YAML file, or what is in memory already."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from rewards.by_name import FORMS, load_function, require_place
from rewards.calling import RewardFunction
from rewards.classifier import ClassifierReward
from rewards.classifier_files import holds_model, load_classifier_tokenizer
from rewards.ensemble import RewardEnsemble
from rewards.preference_model import PreferenceRewardModel
from rewards.reward_file import REWARD_FILE, read_report
from rewards.reward_yaml import read_reward
from rewards.rules import RULES
from rewards.token_model import TokenRewardModel
from rlhf.foundation.errors import InputError

RewardModel = TokenRewardModel | PreferenceRewardModel | RewardEnsemble
_HUB_NAME = re.compile(r"\w[\w.-]*/[\w.-]+")


def load_reward_model(directory: str | Path, *, device: torch.device | str | None = None) -> RewardModel:
    """The reward model that `rlhf reward` wrote; `device` None takes a GPU where there is one.

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


def load_reward(
    reward: Any,
    *,
    label: str | int | None = None,
    processing_class: Any = None,
    device: torch.device | str | None = None,
) -> RewardFunction:
    """A reward function from whatever names or is one.

    `reward` is a rule's name, FILE.py:NAME, FILE.yaml, a directory that `rlhf reward` wrote, a sequence classifier's
    directory, hub name or object (TRL's reward models among them), or a function, which is given back. `label` is the
    label that pays, where a classifier has several (MODEL:LABEL says the same); `processing_class` an object's
    tokenizer, else the one at its `config._name_or_path`; `device` None takes a GPU where there is one.

    Raises InputError when it names none of them, or what it names is unusable.
    """
    if isinstance(reward, nn.Module) and hasattr(reward, "config"):
        tokenizer = processing_class or _tokenizer_of(reward)
        return ClassifierReward(reward, tokenizer, label=label)
    if isinstance(reward, (str, os.PathLike)):
        return _named(os.fspath(reward), label, device)
    if not callable(reward):
        raise InputError("reward", got=f"a {type(reward).__name__}", expected=_EXPECTED, fix="say what to optimise")
    if label is not None:
        raise _no_labels(f"the reward {getattr(reward, '__name__', type(reward).__name__)}", label)
    return cast(RewardFunction, reward)


def _named(name: str, label: str | int | None, device: torch.device | str | None) -> RewardFunction:
    model, own = _model_and_label(name)
    if model is not None and own is not None and label is not None and own != str(label):
        raise InputError(
            f"reward {name}", got=f"the label {label} beside it", expected="one label", fix="leave one out"
        )
    if model is not None and (Path(model) / REWARD_FILE).exists():
        if own is not None or label is not None:
            raise _no_labels(f"reward model {model}", own if own is not None else label)
        return load_reward_model(model, device=device)
    if model is not None and (holds_model(model) or not Path(model).is_dir()):
        return ClassifierReward.from_pretrained(model, device=device, label=own if own is not None else label)
    if model is not None:
        return load_reward_model(model)  # raises: a directory without a model
    if label is not None:
        raise _no_labels(f"reward {name}", label)
    if name not in RULES and name.endswith((".yaml", ".yml")):
        return read_reward(Path(name), lambda part: cast(Any, load_reward(part)))
    require_place(name)
    return load_function(name)


def _model_and_label(name: str) -> tuple[str | None, str | None]:
    """The directory or hub name of a model and the label after its colon, where a reward's name is such."""
    if name in RULES or (name.endswith((".yaml", ".yml")) and not os.path.isdir(name)) or "\0" in name:
        return None, None
    before, _, label = name.rpartition(":")
    for model, own in ((name, None), (before, label)):
        is_hub_name = bool(_HUB_NAME.fullmatch(model)) and not os.path.exists(model) and not model.endswith(".py")
        if model and (os.path.isdir(model) or is_hub_name or holds_model(model)):
            return model, own
    return None, None


def _tokenizer_of(model: Any) -> Any:
    name = getattr(model.config, "_name_or_path", "")
    if not name:
        raise InputError(
            "reward_processing_classes",
            got=f"none, and a {type(model).__name__} that was not loaded from anywhere",
            expected="its tokenizer",
            fix="give it: reward_processing_classes=tokenizer",
        )
    return load_classifier_tokenizer(name)


def _no_labels(what: str, label: object) -> InputError:
    return InputError(what, got=f"the label {label}", expected="none, since it has no labels", fix="leave it out")


def load_rewards(
    models: Sequence[Any], functions: Sequence[Any] = (), *, label: str | int | None = None
) -> list[RewardFunction]:
    """Those of `--reward_model_path` (with `--reward_label`), then those of `--reward_func`. Raises InputError."""
    return [*(load_reward(one, label=label) for one in models), *map(load_reward, functions)]


def as_reward_functions(given: Any, processing_classes: Any = None) -> list[RewardFunction]:
    """The reward functions of a trainer's `reward_funcs`: one or several, each a function, a model or what names one.

    `processing_classes` are tokenizers as in TRL: one for each reward, None where it needs none. Raises InputError for
    no reward at all, for what is none, and for another number of tokenizers.
    """
    several = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    if not several:
        raise InputError("reward_funcs", got="none", expected=_EXPECTED, fix="say what to optimise")
    listed = isinstance(processing_classes, (list, tuple))
    tokenizers = list(processing_classes) if listed else [processing_classes] if processing_classes else []
    if tokenizers and len(tokenizers) != len(several):
        raise InputError(
            "reward_processing_classes",
            got=f"{len(tokenizers)} of them",
            expected=f"{len(several)}, one a reward function",
            fix="give None for a reward that needs none",
        )
    pairs = zip(several, tokenizers or [None] * len(several), strict=True)
    return [load_reward(reward, processing_class=tokenizer) for reward, tokenizer in pairs]


_EXPECTED = f"a function, or the name of a rule, {FORMS}"
