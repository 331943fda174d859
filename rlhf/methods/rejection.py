"""Rejection sampling: the best of n samples of the policy as it is now, as texts to learn (Dong et al. 2023, RAFT)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from rlhf.language_model.randomness import Stream
from rlhf.methods.config import AlignConfig
from rlhf.methods.ladder_keeper import LadderKeeper
from rlhf.methods.learning_data import sft_row
from rlhf.ppo.prompts import PromptSchedule, Row


class Winners(Dataset[Any]):
    """Rows of the best of n; an iteration's worth is drawn when the last one is used up, by the policy of then."""

    def __init__(self, config: AlignConfig, keeper: LadderKeeper, rows: Sequence[Row]) -> None:
        self.config, self.keeper, self.rows = config, keeper, rows
        self.schedule = PromptSchedule(len(rows), num_generations=config.best_of, seed=config.seed)
        self.left: deque[dict[str, Any]] = deque()
        self.drawn = self.rounds = 0

    def __len__(self) -> int:
        return self.config.per_device_train_batch_size * self.config.steps_per_iteration * self.config.max_iterations

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The next winner, whatever the index; it is drawn anew once."""
        if not self.left:
            self._draw()
        return self.left.popleft()

    def _draw(self) -> None:
        winners = self.config.per_device_train_batch_size * self.config.steps_per_iteration
        count, n, worker = winners * self.config.best_of, self.config.best_of, self.keeper.worker
        rows = [self.rows[self.schedule(self.drawn + i)] for i in range(count)]
        encoded = [self.keeper.encode(row["prompt"]) for row in rows]
        training = worker.model.training
        worker.model.eval()
        rollout = worker(rows, encoded, stream=Stream.ROLLOUT, iteration=self.rounds, first_index=self.drawn,
                         measure=False)  # fmt: skip
        worker.model.train(training)
        best = rollout.rewards.nan_to_num(nan=-torch.inf).view(winners, n).argmax(1) + torch.arange(winners) * n
        for i in best.tolist():
            if bool(rollout.scored[i]):
                self.left.append(sft_row(encoded[i], rollout.completion_ids[i][rollout.completion_mask[i]].tolist()))
        self.drawn, self.rounds = self.drawn + count, self.rounds + 1
