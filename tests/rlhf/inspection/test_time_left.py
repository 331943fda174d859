"""The estimate of the time left, on runs whose KL is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlhf.inspection.time_left import duration, progress_of
from rlhf.runs.reading import Run


def run_of(roots: list[float], *, budget: float | None = 9.0, most: int | None = None, seconds: float = 2.0) -> Run:
    lines: list[dict[str, Any]] = [
        {"iteration": i, "kl_per_completion": root**2, "seconds/generate": seconds / 2, "seconds/update": seconds / 2}
        for i, root in enumerate(roots)
    ]
    lines[-1]["seconds/score"] = None
    resolved = {} if most is None else {"max_iterations": most}
    return Run(Path("run"), {"status": "running", "resolved": resolved}, lines, [], budget)


def test_the_root_of_kl_is_followed_to_the_budget() -> None:
    # √KL grows by 0.25 an iteration and is 1.25: (3 - 1.25) / 0.25 = 7 iterations of 2 s.
    found = progress_of(run_of([0.0, 0.25, 0.5, 0.75, 1.0, 1.25]))
    assert (found.iterations_left, found.seconds_left) == (7, pytest.approx(14.0))
    assert found.text() == (
        "iteration 5, KL 1.56 of 9 nats; about 7 iterations or 14 seconds left, an estimate from the growth of √KL"
    )


def test_only_recent_iterations_count() -> None:
    fast_then_slow = [0.5 * i for i in range(4)] + [1.5 + 0.125 * i for i in range(1, 11)]  # ends at 2.75
    assert progress_of(run_of(fast_then_slow)).iterations_left == 2


def test_the_sooner_end_counts() -> None:
    assert progress_of(run_of([0.0, 0.25, 0.5, 0.75, 1.0, 1.25], most=8)).iterations_left == 3
    assert progress_of(run_of([1.0, 1.0, 1.0, 1.0], most=8)).iterations_left == 5  # KL stands still
    assert progress_of(run_of([0.0, 0.25, 0.5, 0.75], budget=None, most=4)).iterations_left == 1


@pytest.mark.parametrize(
    ("roots", "said"),
    [
        ([0.0, 0.25, 0.5], "no estimate yet"),  # too few
        ([1.0, 1.0, 1.0, 1.0], "no estimate yet"),
        ([1.0, 0.9, 0.8, 0.7], "no estimate yet"),
        ([1.0, 2.0, 3.0, 4.0], "about to end"),
        ([1.5, 2.0, 2.5, 2.75], "about 1 iteration or 2 seconds left"),
    ],
)
def test_what_is_said(roots: list[float], said: str) -> None:
    assert said in progress_of(run_of(roots)).text()


def test_durations() -> None:
    assert [duration(seconds) for seconds in (0, 1, 89, 90, 5399, 5400, 36_000)] == [
        "0 seconds",
        "1 second",
        "89 seconds",
        "2 minutes",
        "90 minutes",
        "1.5 hours",
        "10.0 hours",
    ]
