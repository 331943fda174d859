"""The degree of overoptimisation on courses whose areas are counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from rlhf.inspection.estimates import Floats
from rlhf.inspection.overoptimisation import Course
from rlhf.inspection.overoptimisation_degree import overoptimisation_degree

D = np.array([0.0, 1.0, 2.0])
SPREAD = np.array([-1.0, 1.0] * 200)  # standard deviation sqrt(400/399) = 1.00125


def course(means: list[float], scale: float = 1.0) -> Course:
    rows: Floats = np.array(means)[:, None] + SPREAD
    return Course(D, scale * rows)


def test_the_areas_are_those_counted_by_hand() -> None:
    # Gold 0, 1, 0: area 1. Proxy 0, 1, 2: gap 0, 0, 2, so an area of 1 between. γ = 1.
    degree = overoptimisation_degree(course([0, 1, 0]), course([0, 1, 2]))
    assert degree is not None
    assert degree.value == pytest.approx(1.0)
    # The proxy's unit and level count for nothing: 7 times, and 3 more.
    again = overoptimisation_degree(course([0, 1, 0]), course([3, 4, 5], scale=7.0))
    assert again is not None
    assert again.value == pytest.approx(1.0)
    kept = overoptimisation_degree(course([0, 1, 2]), course([0, 1, 2]))
    assert kept is not None
    assert kept.value == pytest.approx(0.0)


def test_lines_that_cross_within_a_step_do_not_cancel() -> None:
    # Gaps 1 at d = 1, -1 at d = 2 (gold 2, 1; proxy 1, 2): 1/2, then two triangles of 1/4. Under gold 1 + 1.5. γ = 0.4;
    # without the crossing the second step would be 1, and γ 0.6.
    degree = overoptimisation_degree(course([0, 2, 1]), course([0, 1, 2]))
    assert degree is not None
    assert degree.value == pytest.approx(0.4)


def test_its_error_is_how_far_it_is_off_over_samples() -> None:
    generator = np.random.default_rng(0)
    means, wanted = (np.array([[0.0], [1.0], [0.5]]), np.array([[0.0], [1.0], [2.0]])), []
    errors = []
    for number in range(200):
        gold, proxy = (Course(D, mean + generator.normal(size=(3, 150))) for mean in means)
        degree = overoptimisation_degree(gold, proxy, draws=200, seed=number)
        assert degree is not None
        wanted.append(degree.value)
        errors.append(degree.se)
    assert np.mean(errors) == pytest.approx(np.std(wanted), rel=0.2)


@pytest.mark.parametrize(
    ("gold", "proxy"),
    [
        (course([0, -1, -2]), course([0, 1, 2])),  # gold gained nothing
        (Course(D, np.ones((3, 5))), course([0, 1, 2])),  # constant
        (Course(D[:1], np.zeros((1, 4))), Course(D[:1], np.zeros((1, 4)))),  # one rung
    ],
)
def test_where_there_is_no_such_number_none_is_told(gold: Course, proxy: Course) -> None:
    assert overoptimisation_degree(gold, proxy) is None
