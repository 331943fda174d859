"""The fixed constants and the learning curve's suggestion, by hand."""

from __future__ import annotations

import pytest

from labeling.errors import InputError
from rewards.calibration import wilson
from rewards.learning_curve import CurvePoint, suggest_labels
from rewards.normalization import measure_normalization


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


def test_suggestion_for_a_rising_curve() -> None:
    # Excess 0.1 at 100 texts: c = 0.01 a √text. With 0.5 judged texts a text held out.
    (n_texts, at_least) = suggest_labels([CurvePoint(100, wilson(30, 50))], 0.5, 0.5)
    assert not at_least
    # 125: 62 judged, expected 0.5 + 0.01 √125 = 0.612, low 0.487; 156: 78, 0.625, 0.514 > 0.5. Rounded up: 160.
    assert n_texts == 160
    assert wilson(0.612 * 62, 62).low < 0.5 < wilson(0.625 * 78, 78).low


def test_a_flat_curve_gives_a_lower_bound() -> None:
    found = suggest_labels([CurvePoint(100, wilson(25, 50))], 0.5, 0.5)
    assert found.at_least
    assert found.n_texts > 100
    assert str(found).startswith("at least")
    worse = suggest_labels([CurvePoint(100, wilson(10, 50)), CurvePoint(50, wilson(8, 25))], 0.5, 0.5)
    assert worse.at_least
    assert worse.n_texts >= found.n_texts
