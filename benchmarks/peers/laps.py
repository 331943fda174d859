"""A lap of the meter whenever a TRL trainer has done an iteration."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback
from work import Meter


class Laps(TrainerCallback):
    """`steps` of the trainer's own steps are an iteration."""

    def __init__(self, steps: int) -> None:
        self.steps, self.meter = steps, Meter()

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """The first iteration begins."""
        self.meter.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count steps."""
        if state.global_step % self.steps == 0:
            self.meter.lap()
