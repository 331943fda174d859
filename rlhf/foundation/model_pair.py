"""A language model in memory, with its tokenizer: what can stand wherever a model's directory can."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A causal language model of transformers' and its tokenizer; no step that is given one changes it.

    `name` is what records and messages call it: its directory, where it has one.
    """

    model: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    name: str = "a model in memory"


Model = str | LanguageModel
"""A directory, a name of the hub, or a model in memory."""


def name_of(model: Model) -> str:
    """What records and messages call a model."""
    return model.name if isinstance(model, LanguageModel) else model
