"""Lets the clip fraction drive the run: too few ratios clipped, sample more per iteration; too many, step less.

With too low a clip fraction the batch grows while the minibatch stays, so a rollout feeds more updates and the policy
moves further from the one that sampled: that raises the fraction. With too high a fraction the learning rate halves.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from rlhf.ppo.config import PPOConfig

Action = Literal["grow_batch", "halve_learning_rate", "at_maximum_batch"]


@dataclass(frozen=True, slots=True)
class Decision:
    """One doing of the controller, as logged: what it read, what it did and why."""

    action: Action
    reason: str
    iteration_batch_size: int
    learning_rate: float

    def to_json(self) -> dict[str, Any]:
        """As the `controller` key of metrics.jsonl."""
        return asdict(self)


@dataclass(slots=True)
class ClipFractionController:
    """State: the batch and the learning rate of the next iteration. `low` and `high` are fractions of tokens."""

    iteration_batch_size: int
    learning_rate: float
    max_iteration_batch_size: int
    low: float
    high: float

    @classmethod
    def of(cls, args: PPOConfig) -> ClipFractionController:
        """At the start of a run with these options."""
        batch = (args.iteration_batch_size, args.learning_rate, args.max_iteration_batch_size)
        return cls(*batch, args.clip_ratio_low, args.clip_ratio_high)

    def read(self, outside_mean: float | None, *, warming_up: bool = False) -> Decision | None:
        """Decide from `clip_ratio/outside_mean`; None (an iteration of a single update) decides nothing.

        While the learning rate is still rising a low fraction says nothing of the batch, so the batch stays.
        """
        if outside_mean is None:
            return None
        if outside_mean > self.high:
            self.learning_rate /= 2
            return self._decision("halve_learning_rate", f"clip fraction {outside_mean:.2%} above {self.high:.0%}")
        if outside_mean < self.low and not warming_up:
            reason = f"clip fraction {outside_mean:.2%} below {self.low:.0%}"
            grown = min(2 * self.iteration_batch_size, self.max_iteration_batch_size)
            if grown == self.iteration_batch_size:
                return self._decision("at_maximum_batch", f"{reason}, batch already at its maximum")
            self.iteration_batch_size = grown
            return self._decision("grow_batch", reason)
        return None

    def _decision(self, action: Action, reason: str) -> Decision:
        return Decision(action, reason, self.iteration_batch_size, self.learning_rate)

    def state(self) -> dict[str, float]:
        """What a resumed run needs."""
        return {"iteration_batch_size": self.iteration_batch_size, "learning_rate": self.learning_rate}

    def restore(self, state: dict[str, float]) -> None:
        """Continue from `state()`."""
        self.iteration_batch_size = int(state["iteration_batch_size"])
        self.learning_rate = float(state["learning_rate"])
