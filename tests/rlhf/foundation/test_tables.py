"""Frames hold what their rows hold."""

from __future__ import annotations

from rlhf.foundation.tables import framed


def test_a_whole_number_stays_exact_where_one_is_missing() -> None:
    frame = framed([{"seed": 2**60 + 1}, {"seed": None}])
    assert int(frame.seed[0]) == 2**60 + 1  # a float would hold 2**60
    assert frame.seed.isna().tolist() == [False, True]


def test_numbers_with_a_point_stay_floats() -> None:
    assert framed([{"x": 1.0}, {"x": None}]).x.dtype == "float64"
    assert framed([{"x": True}, {"x": None}]).x.tolist() == [True, None]


def test_a_lone_surrogate_stands_as_its_escape() -> None:
    assert framed([{"text": "a\ud800b", "n": 1}]).text.tolist() == ["a\\ud800b"]


def test_units_are_those_of_the_columns_there() -> None:
    assert framed([{"reward": 1.0}], {"reward": "points", "gold": "points"}).attrs == {"units": {"reward": "points"}}
