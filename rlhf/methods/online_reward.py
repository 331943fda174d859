"""Our rewards as GRPO and RLOO call one: on completions by their ids, read as every completion is read here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rlhf.methods.ladder_keeper import LadderKeeper


class OnlineReward:
    """`f(prompts, completions, completion_ids) -> list[float | None]` of all rewards of a run together."""

    __name__ = "reward"

    def __init__(self, keeper: LadderKeeper) -> None:
        self.keeper = keeper

    def __call__(
        self, prompts: Sequence[Any], completions: Any, completion_ids: Sequence[Sequence[int]], **_: Any
    ) -> list[float | None]:
        """Of each completion; None where no reward applies."""
        keeper, ids = self.keeper, [list(row) for row in completion_ids]
        texts = keeper.worker.ending.texts([keeper.encode(prompt) for prompt in prompts], ids)
        values = keeper.rewards.weighted(keeper.rewards.values(prompts, texts, ids))
        return [None if math.isnan(value) else value for value in values.tolist()]
