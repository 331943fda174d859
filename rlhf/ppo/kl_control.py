"""The KL coefficient beta: none, fixed, falling, or adaptive towards a target (Ziegler et al. 2019, section 2.2)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class KLController:
    """`beta` per nat; `target` in nats per completion, or None to leave beta alone; `horizon` in completions;
    `decay` the share of beta that each rollout takes away."""

    beta: float
    target: float | None
    horizon: int
    decay: float = 0.0

    def hold(self, beta: float) -> None:
        """From here on so much, which no longer falls by itself."""
        self.beta, self.decay = beta, 0.0

    def read(self, kl_per_completion: float, completions: int) -> None:
        """β ← β (1 - decay); with a target e = clip(KL/target - 1, -0.2, 0.2);  β ← β (1 + e · completions/horizon)."""
        self.beta *= 1 - self.decay
        if self.target is None:
            return
        error = min(max(kl_per_completion / self.target - 1, -0.2), 0.2)
        self.beta *= 1 + error * completions / self.horizon
