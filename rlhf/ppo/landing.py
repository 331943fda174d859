"""Landing on the KL budget: predict where the next update ends, shorten it, and take back one that went too far.

√KL(policy ‖ original) grows about linearly with the way that Adam goes, Σ learning rate over its steps. So the slope of
√KL against that way tells what share of the next update reaches the budget's root, and that share of the learning rate
is what the update gets. Where the policy went beyond the budget all the same (a rate too large, a first update that
nothing predicts), its weights are moved back on the straight line to where the last update began. Near the budget the
KL that decides is that of the evaluation samples, which the final rung will state.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rlhf.ppo.config import PPOConfig
from rlhf.ppo.state import restore_parameters, trained_parameters
from rlhf.ppo.update import warmup_factor

TOLERANCE = 0.02  # of the budget: a policy so near has arrived
NEARBY = 0.10  # of the budget below it: from here on the evaluation samples decide
HALFWAY = 0.5  # of the budget: from here on every update can be taken back, whatever the slope was
WINDOW = 5  # measurements that the slope is taken from
REACH = 4.0  # an update that goes so many times as far as predicted can still be taken back
MOST_STEPS_BACK = 12  # in a row
SHORTEN, STEP_BACK = "shorten_update", "step_back"


class Move(NamedTuple):
    """What an iteration does besides a whole update, as the `kl_landing` key of metrics.jsonl has it."""

    action: str  # SHORTEN or STEP_BACK
    share: float  # of the update that is done, or that is kept
    reason: str


@dataclass(slots=True)
class Landing:
    """Where the run stands on its way; `budget` in nats per completion, ways in units of the learning rate."""

    budget: float
    way: float = 0.0  # Σ learning rate of all steps so far
    points: list[list[float]] = field(default_factory=list)  # [way, √KL] of the latest policies
    before: dict[str, Tensor] | None = None  # the trained weights before the last update, where it may be taken back
    start: list[float] | None = None  # [way, √KL] of them
    steps_back: int = 0  # in a row

    @property
    def root(self) -> float:
        """√budget."""
        return math.sqrt(self.budget)

    def near(self, kl: float) -> bool:
        """Whether a policy whose rollout has `kl` nats may have arrived: its evaluation samples decide."""
        return kl >= self.budget * (1 - NEARBY)

    def arrived(self, kl: float) -> bool:
        """Whether a policy at `kl` nats ends the run: within the tolerance, or beyond with no way back."""
        return kl >= self.budget * (1 - TOLERANCE) and not self.too_far(kl)

    def too_far(self, kl: float) -> bool:
        """Whether a policy at `kl` nats lies beyond the budget and can be taken back."""
        beyond = kl > self.budget * (1 + TOLERANCE)
        return beyond and self.before is not None and self.steps_back < MOST_STEPS_BACK

    def read(self, kl: float) -> None:
        """Note where the policy stands; one that is taken back leaves no point."""
        if not self.too_far(kl):
            self.points = [*self.points, [self.way, math.sqrt(max(kl, 0.0))]][-WINDOW:]

    def slope(self) -> float | None:
        """√KL a unit of way, least squares over the latest points; None before there are two."""
        if len(self.points) < 2:
            return None
        ways, roots = zip(*self.points, strict=True)
        middle, mean = sum(ways) / len(ways), sum(roots) / len(roots)
        spread = sum((x - middle) ** 2 for x in ways)
        return sum((x - middle) * (y - mean) for x, y in self.points) / spread if spread else None

    def share(self, planned: float) -> float:
        """What share of an update that goes `planned` ends at the budget; 1 where all of it stays below."""
        slope, left = self.slope(), self.root - self.points[-1][1]
        if slope is None or slope * planned <= left:
            return 1.0
        return max(left, 0.1 * slope * planned) / (slope * planned)

    def prepare(
        self, model: nn.Module, completions: int, steps_before: int, rate: float, args: PPOConfig
    ) -> Move | None:
        """Before the update on so many completions: how it is shortened, None where the whole of it is done.

        Where it may end beyond the budget the weights that it begins with are kept.
        """
        steps = math.ceil(completions / args.minibatch_size) * args.num_ppo_epochs
        planned = way_of(steps, steps_before, rate, args)
        self._keep(model, planned)
        share = self.share(planned)
        if share == 1.0:
            return None
        at = self.points[-1][1] + (self.slope() or 0.0) * planned
        said = f"the whole update was predicted to end at {at**2:.2f} nats, beyond the budget of {self.budget:g}"
        return Move(SHORTEN, share, said)

    def _keep(self, model: nn.Module, planned: float) -> None:
        """The trained weights before an update that may go beyond the budget; nothing where none can."""
        self.steps_back = 0
        within = self._within_reach(planned)
        self.start = list(self.points[-1]) if within else None
        self.before = trained_parameters(model) if within else None

    def _within_reach(self, planned: float) -> bool:
        """Whether an update may end beyond the budget; also where nothing is known of how far an update goes."""
        root = self.points[-1][1]
        if len(self.points) < 2 or root**2 >= HALFWAY * self.budget:
            return True
        pairs = zip(self.points, self.points[1:], strict=False)
        steepest = max(((d - c) / (b - a) for (a, c), (b, d) in pairs if b > a), default=0.0)
        return root + REACH * steepest * planned >= self.root

    def step_back(self, model: nn.Module, kl: float) -> Move:
        """Move the weights of a policy at `kl` nats back towards where the last update began, to meet the budget."""
        assert self.before is not None  # too_far() said so
        assert self.start is not None
        way, root = self.start
        share = min(max((self.root - root) / (math.sqrt(kl) - root), 0.02), 0.98)
        after = trained_parameters(model)
        restore_parameters(model, {name: torch.lerp(x, after[name], share) for name, x in self.before.items()})
        self.way = way + share * (self.way - way)
        self.steps_back += 1
        said = f"{kl:.2f} nats are beyond the budget of {self.budget:g}; so much of the last update is kept"
        return Move(STEP_BACK, share, said)

    def forget(self) -> None:
        """Begin anew with other weights, from which no way is known."""
        self.points, self.before, self.start, self.steps_back = [], None, None, 0

    # -- what a resumed run needs ----------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything but the weights."""
        return {"way": self.way, "points": self.points, "start": self.start, "steps_back": self.steps_back}

    def tensors(self) -> dict[str, Tensor]:
        """The weights, "NAME/before"."""
        return {f"{name}/before": tensor for name, tensor in (self.before or {}).items()}

    def restore(self, state: Mapping[str, Any] | None, tensors: Mapping[str, Tensor]) -> None:
        """Continue from `state()` and `tensors()`; a state of an earlier version has none."""
        kept = {name.removesuffix("/before"): x for name, x in tensors.items() if name.endswith("/before")}
        self.before = kept or None
        for key, value in (state or {}).items():
            setattr(self, key, value)


def way_of(steps: int, steps_before: int, rate: float, args: PPOConfig) -> float:
    """Σ learning rate of `steps` optimiser steps after `steps_before` of them, with the warm-up."""
    return rate * sum(warmup_factor(step, args.warmup_steps) for step in range(steps_before, steps_before + steps))
