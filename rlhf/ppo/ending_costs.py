"""What a completion's ending costs of its reward, in the reward's own unit: none at all unless asked for.

1. `missing_eos_penalty`: taken off a completion that no end token and no stop string ended (TRL's PPOTrainer and
   OpenRLHF had it).
2. Soft overlong punishment (DAPO, Yu et al. 2025, arXiv 2503.14476, eq. 13, with a factor): from the last
   `overlong_buffer_length` tokens before the limit on, the cost rises linearly to `overlong_penalty_factor`.

Shapes: B completions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlhf.ppo.config import PPOConfig


@dataclass(frozen=True, slots=True)
class EndingCosts:
    """Costs of one ending: `penalty` and `factor` in the reward's unit, `buffer` and `limit` in tokens."""

    penalty: float = 0.0
    factor: float = 0.0
    buffer: int = 0
    limit: int = 0

    @classmethod
    def of(cls, args: PPOConfig) -> EndingCosts:
        """Those of a run's options."""
        buffer = args.overlong_buffer_length or 0
        factor = args.overlong_penalty_factor if buffer else 0.0
        return cls(args.missing_eos_penalty or 0.0, factor, buffer, args.max_completion_length)

    @property
    def asked_for(self) -> bool:
        """Whether any ending costs anything."""
        return self.penalty > 0 or self.factor > 0

    def missing_end(self, ended: Tensor) -> Tensor:
        """The first cost, (B,) from (B,) bool."""
        return torch.where(ended, 0.0, self.penalty).double()

    def overlong(self, lengths: Tensor) -> Tensor:
        """The second cost, (B,), of completions of `lengths` (B,) tokens."""
        if not self.buffer:
            return torch.zeros(len(lengths), dtype=torch.float64)
        over = (lengths.double() - (self.limit - self.buffer)) / self.buffer
        return self.factor * over.clamp(0.0, 1.0)

    def __call__(self, ended: Tensor, lengths: Tensor) -> Tensor:
        """All of it, (B,)."""
        return self.missing_end(ended) + self.overlong(lengths)
