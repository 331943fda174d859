"""From human labels to a finetuned policy, with the KL bill in view. Names load on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlhf.ppo.config import PPOConfig
    from rlhf.ppo.trainer import PPOTrainer

__version__ = "0.1.0"
__all__ = ["PPOConfig", "PPOTrainer", "__version__"]

_HOME = {"PPOConfig": "rlhf.ppo.config", "PPOTrainer": "rlhf.ppo.trainer"}


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'rlhf' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
