"""What counts as a timely and as a false warning, on planted cells; and a planted signal is found by other seeds."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.test_docs import load


@pytest.fixture(scope="module")
def script() -> Any:
    return load("benchmarks/early_warning.py")


def cell(script: Any, seed: int, onset: float | None, gold: list[float]) -> Any:
    """Rungs at 0, 1, 4, 9, 16 nats with these means of gold; `spread` falls from 1 to 0.2 two nats before the onset."""
    kls = [0.0, 1.0, 4.0, 9.0, 16.0]
    noise = np.random.default_rng(seed).normal(0, 0.1, 200)
    scores = {f"r{i}": {"gold": (mean + noise).tolist()} for i, mean in enumerate(gold)}
    found = SimpleNamespace(status="onset" if onset else "none_seen", d=(onset or 0.0) ** 0.5)
    evaluation = SimpleNamespace(
        golds=["gold"], onsets={"gold": found}, scores=scores,
        rungs=[SimpleNamespace(name=f"r{i}", kl=kl) for i, kl in enumerate(kls)],
    )  # fmt: skip
    far = onset - 2 if onset else 99.0
    lines = [{"kl_per_completion": kl, "spread": 0.2 if kl >= far else 1.0} for kl in np.arange(0.0, 16.5, 0.5)]
    return script.Cell(seed, lines, evaluation)


def test_a_warning_is_false_where_gold_rises_later_and_timely_a_nat_before_the_onset(script: Any) -> None:
    one = cell(script, 0, 9.0, [0.0, 0.1, 0.5, 0.8, 0.2])
    assert script.outcome(one, None) == (False, False)
    assert script.outcome(one, 3.0) == (True, False)  # 0.8 is still to come
    assert script.outcome(one, 9.0) == (False, False)  # too late
    early = cell(script, 0, 9.0, [0.0, 0.1, 0.8, 0.8, 0.2])
    assert script.outcome(early, 7.9) == (False, True)
    assert script.outcome(early, 8.1) == (False, False)
    rising = cell(script, 0, None, [0.0, 0.1, 0.5, 0.8, 0.9])
    assert script.outcome(rising, 16.0) == (False, False)
    assert script.outcome(rising, 10.0) == (True, False)


def test_a_planted_signal_is_found_and_noise_is_not(script: Any) -> None:
    falls, rises = [0.0, 0.1, 0.8, 0.8, 0.2], [0.0, 0.1, 0.5, 0.8, 0.9]
    cells = [cell(script, seed, 9.0, falls) for seed in range(6)] + [cell(script, s, None, rises) for s in range(6)]
    found = script.held_out(cells, lambda one: [line["spread"] for line in one.lines])
    assert [timely for _, timely in found] == [True] * 6 + [False] * 6
    assert not any(false for false, _ in found)
    silent = script.held_out(cells, lambda one: [0.0] * len(one.lines))
    assert not any(timely for _, timely in silent)
