"""The fixed constants, by hand."""

from __future__ import annotations

import pytest

from rewards.normalization import measure_normalization
from rlhf.foundation.errors import InputError


def measure(rewards: list[float]) -> object:
    n = len(rewards)
    return measure_normalization(
        rewards, prompts=["", "a"] * (n // 2), sources=["m"] * n, completion_tokens=list(range(n)), place="s.jsonl"
    )


def test_constants_by_hand() -> None:
    found = measure_normalization(
        [-1.0, -3.0] * 8,
        prompts=["", "a", "", "b"] * 4,
        sources=["m"] * 16,
        completion_tokens=[7, 32] * 8,
        place="s.jsonl",
    )
    assert found.offset == -2.0
    # Σ (x - mean)² = 16, over n - 1 = 15.
    assert found.scale == pytest.approx((16 / 15) ** 0.5)
    assert found.offset_se == pytest.approx((16 / 15) ** 0.5 / 4)
    assert found.prompts == {"": 8, "a": 4, "b": 4}
    assert found.max_completion_tokens == 32


@pytest.mark.parametrize("rewards", [[0.0] * 20, [-0.7] * 20, [5.0]])
def test_no_spread_and_too_few_are_refused(rewards: list[float]) -> None:
    with pytest.raises(InputError, match=r"s\.jsonl"):
        measure(rewards)
