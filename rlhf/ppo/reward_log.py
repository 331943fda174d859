"""What reward functions are told of the training, and what they say themselves: TRL's `trainer_state`, `log_metric` and
`log_extra`.

`log_metric(name, value)` puts a number of the function's own into metrics.jsonl: the mean of what was logged in the
iteration, over all calls and processes. `log_extra(column, values)` names a further column of the table of samples that
trackers show: of a rung's evaluation samples, where the main process scored them.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rlhf.foundation.errors import InputError
from rlhf.ppo.distributed import Processes
from rlhf.runs.metrics import METRICS


@dataclass
class TrainerState:
    """How far the training is, under the names of transformers' TrainerState: a step is one iteration."""

    global_step: int = 0
    max_steps: int = 0
    epoch: float = 0.0
    log_history: list[dict[str, Any]] = field(default_factory=list)


class RewardLog:
    """Given to every reward function; read and emptied once an iteration."""

    def __init__(self, max_steps: int) -> None:
        self.state = TrainerState(max_steps=max_steps)
        self.columns: dict[str, list[Any]] = {}
        self._values: dict[str, list[float]] = {}

    def extras(self) -> dict[str, Any]:
        """The arguments of a reward function."""
        return {"trainer_state": self.state, "log_metric": self.log_metric, "log_extra": self.log_extra}

    def log_metric(self, name: str, value: Any) -> None:
        """Keep a number for the iteration's line. Raises InputError for a name that is taken, or no finite number."""
        place = f"log_metric({name!r})"
        if not isinstance(name, str) or name in METRICS or name.startswith("rewards/"):
            fix = "name it otherwise, such as judge/agreement"
            raise InputError(place, got="a name that metrics.jsonl has already", expected="another one", fix=fix)
        if getattr(value, "ndim", None) == 0:
            value = value.item()
        if not isinstance(value, numbers.Real) or not math.isfinite(value):
            raise InputError(place, got=repr(value)[:60], expected="a finite number", fix="mend the function")
        self._values.setdefault(name, []).append(float(value))

    def log_extra(self, column: str, values: Sequence[Any]) -> None:
        """Keep a column, a value a completion, for the table of a rung's samples."""
        self.columns.setdefault(str(column), []).extend(values)

    def begin(self, iteration: int, *, epoch: float) -> None:
        """An iteration begins; `epoch` is how often the prompts have been gone through."""
        self.state.global_step, self.state.epoch = iteration, epoch
        self._values, self.columns = {}, {}

    @contextmanager
    def aside(self) -> Iterator[dict[str, list[Any]]]:
        """While something else than the iteration's rollout is scored: its columns, and none of its numbers."""
        values, columns = self._values, self.columns
        self._values, self.columns = {}, {}
        try:
            yield self.columns
        finally:
            self._values, self.columns = values, columns

    def means(self, processes: Processes) -> dict[str, float]:
        """The mean of each name over all calls and processes, and nothing kept."""
        own = {name: [sum(values), len(values)] for name, values in self._values.items()}
        self._values = {}
        sums: dict[str, list[float]] = {}
        for note in processes.exchange(own):
            for name, (total, count) in note.items():
                before = sums.get(name, [0.0, 0.0])
                sums[name] = [before[0] + total, before[1] + count]
        return {name: total / count for name, (total, count) in sorted(sums.items())}
