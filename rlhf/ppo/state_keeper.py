"""When the state of a run is saved, and what of the trainer goes into it and comes back.

A large model's state takes seconds to write, so it is not written after every iteration; what a stopped run has done
since is made again. A rung's iteration is saved whatever it costs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rlhf.foundation.causal_lm import shape_of
from rlhf.ppo import state
from rlhf.ppo.controller import ClipFractionController
from rlhf.ppo.guard import Guard
from rlhf.ppo.kl_control import KLController
from rlhf.ppo.landing import Landing
from rlhf.ppo.zero import ZeroOptimizer

MOST = 0.05  # of a run's time goes into saving its state
SMALL = 64 * 2**20  # bytes; such states are saved after every iteration


class StateKeeper:
    """Of one run: the learner's trained weights, the optimiser, both controllers and the way to the budget."""

    def __init__(
        self,
        directory: Path,
        learner: nn.Module,
        optimizer: torch.optim.Optimizer | ZeroOptimizer,
        controller: ClipFractionController,
        kl_controller: KLController,
        landing: Landing,
        guard: Guard,
        *,
        writes: bool = True,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`directory` holds the states; `clock` tells seconds; one that does not write helps to gather a cut model."""
        self.directory, self.learner, self.optimizer = directory, learner, optimizer
        self.controller, self.kl_controller, self.landing, self.guard = controller, kl_controller, landing, guard
        self._clock, self.writes = clock, writes
        trained = (p for p in learner.parameters() if p.requires_grad)
        self.size = 3 * sum(shape_of(p).numel() * p.element_size() for p in trained)  # bytes, with Adam's two moments
        self.saved: int | None = None  # the iteration that the latest state of this process goes on with
        self._took = self._ended = 0.0

    def due(self) -> bool:
        """Whether another state may be written without taking more than its share of the time."""
        return self.size < SMALL or self._took <= MOST * (self._clock() - self._ended)  # the first one always

    def save(self, iteration: int, values: Mapping[str, Any]) -> None:
        """Write what goes on with `iteration`; `values` are the trainer's own, as JSON has them."""
        started = self._clock()
        kept = {**values, "controller": self.controller.state(), "beta": self.kl_controller.beta}
        kept |= {"beta_decay": self.kl_controller.decay}
        kept |= {"landing": self.landing.state(), "guard": self.guard.state()}
        tensors = {**state.optimizer_tensors(self.learner, self.optimizer), **self.landing.tensors()}
        tensors |= self.guard.tensors()
        parameters = state.trained_parameters(self.learner)
        if self.writes:
            state.save_state(self.directory, state.State(iteration, parameters, tensors, kept))
        self.saved, self._ended = iteration, self._clock()
        self._took = self._ended - started

    def restore(self, saved: state.State) -> None:
        """Put a state back."""
        state.restore_parameters(self.learner, saved.parameters)
        state.restore_optimizer(self.learner, self.optimizer, saved.optimizer)
        self.controller.restore(saved.values["controller"])
        self.kl_controller.beta = saved.values["beta"]
        self.kl_controller.decay = saved.values.get("beta_decay", self.kl_controller.decay)
        self.landing.restore(saved.values.get("landing"), saved.optimizer)
        self.guard.restore(saved.values.get("guard"), saved.optimizer)
