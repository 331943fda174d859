"""Planted ladders: the onset is recovered, α and β are recovered, and nothing is found where nothing is."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from rlhf.inspection.curve_fits import design, fit_curve, fit_points
from rlhf.inspection.estimates import Floats, bootstrap_means
from rlhf.inspection.overoptimisation import Course, Onset, find_onset

ROOTS = np.linspace(0, math.sqrt(10), 13)
STUDIES = 100


def ladder(curve: Callable[[float], float], seed: int, samples: int = 400) -> Course:
    """Scores with a planted mean; 0.7 of the noise is shared by all rungs, as equal seeds make it."""
    generator = np.random.default_rng(seed)
    shared = 0.7 * generator.normal(0, 0.5, samples)
    own = math.sqrt(1 - 0.7**2)
    return Course(ROOTS, np.stack([curve(d) + shared + own * generator.normal(0, 0.5, samples) for d in ROOTS]))


def gao(peak: float, beta: float = 0.5) -> Callable[[float], float]:
    """d(α - β log d) with its highest point at d = exp(α/β - 1) = peak."""
    alpha = beta * (1 + math.log(peak))
    return lambda d: d * (alpha - beta * math.log(d)) if d > 0 else 0.0


def onsets(curve: Callable[[float], float]) -> list[Onset]:
    names = [f"kl-{d * d:05.2f}" for d in ROOTS]
    rising = Course(ROOTS, np.tile(ROOTS[:, None], 400))
    return [find_onset("gold", names, [ladder(curve, seed)], rising, draws=500) for seed in range(STUDIES)]


@pytest.mark.parametrize(
    ("curve", "peak"),
    [
        (gao(1.0), 1.0),
        (gao(1.5), 1.5),
        (gao(2.2), 2.2),
        (lambda d: 0.4 * d * (3 - d), 1.5),
        (lambda d: 0.4 * min(d, 3 - d), 1.5),
    ],
    ids=["gao 1.0", "gao 1.5", "gao 2.2", "parabola", "tent"],
)
def test_a_planted_onset_lies_in_its_interval(curve: Callable[[float], float], peak: float) -> None:
    found = onsets(curve)
    covered = sum(onset.interval[0] <= peak <= onset.interval[1] for onset in found)
    assert covered >= 90
    assert all(onset.status == "onset" for onset in found)


def test_a_rising_gold_has_no_onset() -> None:
    assert {onset.status for onset in onsets(lambda d: 0.3 * d)} == {"none_seen"}


def test_a_flat_gold_seldom_has_one() -> None:
    assert sum(onset.status == "onset" for onset in onsets(lambda d: 0.0)) <= 11  # 5 %, P(more) < 0.5 %


def test_the_fit_recovers_alpha_and_beta() -> None:
    covered = []
    for seed in range(STUDIES):
        course = ladder(lambda d: d * (0.8 - 0.5 * math.log(d)) if d > 0 else 0.0, seed)
        fit = fit_curve("rl", course.d, course.means, bootstrap_means(course.scores, 300))
        assert fit is not None
        assert fit.alpha is not None
        assert fit.beta is not None
        covered.append(abs(fit.alpha - 0.8) < 1.96 * (fit.alpha_se or 0))
        covered.append(abs(fit.beta - 0.5) < 1.96 * (fit.beta_se or 0))
        assert fit.r_squared > 0.9
    assert np.mean(covered) >= 0.9


def test_noiseless_curves_are_met_exactly() -> None:
    d = np.linspace(0, 3, 9)
    for form, values in (("rl", d * (0.9 - 0.4 * np.log(np.maximum(d, 1e-9)))), ("best_of_n", d * (0.9 - 0.1 * d))):
        fit = fit_points(form, d, values + 2, np.zeros(9))  # type: ignore[arg-type]
        assert fit is not None
        assert fit.alpha == pytest.approx(0.9, abs=1e-6)
        assert fit.beta == pytest.approx(0.4 if form == "rl" else 0.1, abs=1e-6)
        assert fit.r_squared == pytest.approx(1)
    assert fit_points("rl", [0.0, 1.0], [0.0, 1.0], [0.1, 0.1]) is None


def test_the_other_form_does_not_fit() -> None:
    d = np.linspace(0, 3, 12)
    values: Floats = d * (0.9 - 0.8 * np.log(np.maximum(d, 1e-9)))
    right, wrong = (fit_points(form, d, values, np.full(12, 0.01)) for form in ("rl", "best_of_n"))  # type: ignore[arg-type]
    assert right is not None
    assert wrong is not None
    assert right.p_value is not None
    assert wrong.p_value is not None
    assert right.p_value > 0.5
    assert wrong.p_value < 0.01
    assert design("rl", np.array([0.0, math.e]))[1] == pytest.approx([1, math.e, -math.e])  # d log d, not log d


def test_several_runs_have_a_wider_interval_that_says_so() -> None:
    def run(seed: int) -> Course:
        peak = float(np.random.default_rng(100 + seed).normal(1.5, 0.3))  # runs differ more than samples do
        return ladder(gao(peak), seed)

    names = [f"{d:.2f}" for d in ROOTS]
    courses = [run(seed) for seed in range(5)]
    alone = find_onset("gold", names, courses[:1], courses[0], draws=300)
    together = find_onset("gold", names, courses, courses[0], draws=300)
    assert np.ptp(together.interval) > 2 * np.ptp(alone.interval)
    assert together.interval[0] <= 1.5 <= together.interval[1]
    assert "over 5 runs" in together.statement()
    assert "this run only" in alone.statement()
