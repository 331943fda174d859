"""Human quality along the ladder: intervals cover, raters count as a source of error, silence where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from labeling.blind import Unblinded
from rlhf.foundation.errors import InputError
from rlhf.inspection.blind_power import Raters
from rlhf.inspection.human_ladder import bootstrap, ladder_power, rating_table, score_ladder, simulate_ladder

ROOTS = np.linspace(0, math.sqrt(10), 8)
NAMES = {str(i): float(d) for i, d in enumerate(ROOTS)}


def parabola(peak: float, fall: float) -> list[float]:
    """Qualities highest at `peak`, `fall` points lower at the farther end."""
    reach = max(peak, ROOTS[-1] - peak)
    return [float(3 + fall * (0.5 - ((d - peak) / reach) ** 2)) for d in ROOTS]


@pytest.mark.slow
@pytest.mark.parametrize("raters", [Raters(), Raters(count=3)], ids=["1 rater", "3 raters"])
def test_the_onset_and_the_rungs_are_covered(raters: Raters) -> None:
    quality = parabola(1.5, 1.0)
    truth = [raters.moments(q)[0] for q in quality]
    onset = rungs = 0
    for seed in range(100):
        rows = simulate_ladder(quality, 40, raters, np.random.default_rng(seed))
        found = score_ladder(rows, NAMES, draws=400)
        onset += found.interval[0] <= 1.5 <= found.interval[1]
        rungs += sum(r.interval[0] <= t <= r.interval[1] for r, t in zip(found.rungs, truth, strict=True))
    assert onset >= 90
    assert rungs / 800 >= 0.90


def test_a_clear_fall_is_found_and_told() -> None:
    rows = simulate_ladder(parabola(1.5, 1.5), 40, Raters(count=2), np.random.default_rng(0))
    found = score_ladder(rows, NAMES, draws=400)
    assert found.status == "onset"
    assert found.ratings == 640
    assert "Human quality stops rising at" in found.statement()
    assert "640 ratings of 2 raters" in found.statement()


def test_a_flat_ladder_is_not_resolved() -> None:
    statuses = [
        score_ladder(simulate_ladder([3.0] * 8, 20, Raters(), np.random.default_rng(seed)), NAMES, draws=200).status
        for seed in range(40)
    ]
    assert statuses.count("onset") <= 6  # 5 % nominal; P(more than 6 of 40) < 1 %
    assert "not_resolved" in statuses


def test_raters_who_differ_widen_the_interval() -> None:
    generator = np.random.default_rng(0)
    shifts = [-1.0, 0.0, 1.0]
    base = np.clip(np.rint(generator.normal(3, 0.6, 60)), 2, 4)
    table = np.stack([base + shift for shift in shifts], axis=1)
    together, alone = bootstrap([table], 2000)[:, 0].std(), bootstrap([table[:, 1:2]], 2000)[:, 0].std()
    # Three raters drawn with return, shifts of variance 2/3: their mean has √(2/9) = 0.47 beside the samples' 0.08.
    assert together == pytest.approx(0.47, abs=0.05)
    assert alone < 0.12


def test_missing_ratings_are_left_out_not_zero() -> None:
    rows = [Unblinded("a", "0", 4, "x", "", None), Unblinded("b", "0", 2, "y", "", None)]
    table = rating_table(rows, ["x", "y"])
    assert np.isnan(table).sum() == 2
    assert np.nanmin(bootstrap([table], 500)) >= 2


def test_too_few_rungs_or_samples() -> None:
    rows = simulate_ladder([3.0, 4.0], 5, Raters(), np.random.default_rng(0))
    assert score_ladder(rows, {"0": 0.0, "1": 1.0}).status == "too_few_rungs"
    with pytest.raises(InputError, match="0 rated samples of 2"):
        score_ladder(rows, {"0": 0.0, "1": 1.0, "2": 2.0})


def test_power_grows_with_the_fall() -> None:
    small, large = (ladder_power(8, 10, fall, Raters(), studies=20) for fall in (0.2, 2.0))
    assert small < 0.5 < large
