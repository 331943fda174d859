"""How far a run has come and about how long it will take: √KL grows about linearly in its iterations.

The time of an iteration is what its line of metrics.jsonl says; evaluating a rung's samples is not in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rlhf.runs.reading import Run, sqrt_kl

STAGES = ("seconds/generate", "seconds/score", "seconds/reference", "seconds/update")
RECENT = 10  # iterations that the estimate follows
FEWEST = 4


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands, KL in nats per completion; what is left are estimates, None where there are none yet."""

    iteration: int
    most_iterations: int | None
    kl: float
    budget: float | None
    iterations_left: int | None
    seconds_left: float | None

    def text(self) -> str:
        """`iteration 12 of at most 200, KL 3.20 of 10 nats; about 9 iterations or 6 minutes left, an estimate ...`."""
        most = f" of at most {self.most_iterations}" if self.most_iterations is not None else ""
        budget = f" of {self.budget:g}" if self.budget is not None else ""
        left = "about to end" if self.iterations_left == 0 else "no estimate yet of the time left"
        if self.iterations_left and self.seconds_left is not None:
            count = f"{self.iterations_left:,} iteration{'s' if self.iterations_left > 1 else ''}"
            left = f"about {count} or {duration(self.seconds_left)} left, an estimate from the growth of √KL"
        return f"iteration {self.iteration}{most}, KL {self.kl:.2f}{budget} nats; {left}"


def progress_of(run: Run) -> Progress:
    """Where the run stands by its last line, and the sooner of its two ends: KL budget and iterations."""
    last = run.metrics[-1]
    most = run.info.get("resolved", {}).get("max_iterations")
    ends = [] if most is None else [max(0, most - last["iteration"])]
    ends += iterations_to_budget(run)
    left = min(ends) if ends and len(run.metrics) >= FEWEST else None
    seconds = None if left is None else left * seconds_an_iteration(run)
    return Progress(last["iteration"], most, last["kl_per_completion"], run.budget_nats, left, seconds)


def iterations_to_budget(run: Run) -> list[int]:
    """(√budget - √KL) / slope of √KL by iteration; [] without a budget, or where KL does not grow."""
    roots = np.array([sqrt_kl(row["kl_per_completion"]) for row in run.metrics[-RECENT:]])
    steps = np.arange(len(roots)) - (len(roots) - 1) / 2
    slope = float((steps * roots).sum() / (steps**2).sum()) if len(roots) > 1 else 0.0
    if run.budget_nats is None or slope <= 0:
        return []
    return [max(0, math.ceil((math.sqrt(run.budget_nats) - float(roots[-1])) / slope))]


def seconds_an_iteration(run: Run) -> float:
    """Mean over the recent iterations."""
    return float(np.mean([sum(row.get(stage) or 0.0 for stage in STAGES) for row in run.metrics[-RECENT:]]))


def duration(seconds: float) -> str:
    """Seconds in words, as exactly as an estimate deserves."""
    for unit, size, digits in (("hours", 3600, 1), ("minutes", 60, 0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.{digits}f} {unit}"
    return "1 second" if round(seconds) == 1 else f"{seconds:.0f} seconds"
