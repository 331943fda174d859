"""The curve's points, what it expects of more labels, and the suggestion to a model at chance."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rewards.held_out import HeldOut
from rewards.learning_curve import CurvePoint, curve_steps, expected_gain, measure_curve, suggest_labels
from rewards.targets import pool_labels
from rewards.token_recipe import Recipe
from rewards.token_training import FitSettings
from rlhf.foundation.proportion import wilson

from .conftest import toy_labels, toy_model, toy_tokenizer


def held_out(n_right: int, n: int) -> HeldOut:
    """n positive texts, the first n_right of them called positive; and one neutral text that does not count."""
    return HeldOut(np.array([1.0] * n_right + [-1.0] * (n - n_right) + [3.0]), np.array([1.0] * n + [0.5]))


def test_gain_by_hand() -> None:
    # Accuracy 0.6 at 100 and 0.8 at 400: b = 0.2 / log 4; from 400 to 500 labels: b log(5/4).
    found = expected_gain([100, 400], [held_out(60, 100), held_out(80, 100)], 400, seed=0)
    assert found.labels == 100
    assert found.gain == pytest.approx(0.2 / math.log(4) * math.log(5 / 4))
    # 20 of 100 texts are won: a standard error of 0.04 on 0.2, times the same factor.
    factor = math.log(5 / 4) / math.log(4)
    assert found.low == pytest.approx(factor * (0.2 - 1.96 * 0.04), abs=factor * 0.015)
    assert found.high == pytest.approx(factor * (0.2 + 1.96 * 0.04), abs=factor * 0.015)


def test_a_flat_curve_gains_nothing() -> None:
    found = expected_gain([100, 200, 400], [held_out(70, 100)] * 3, 400, seed=0)
    assert found[1:] == pytest.approx((0, 0, 0), abs=1e-12)


def test_points_grow_on_the_same_held_out_texts() -> None:
    texts = pool_labels(toy_labels(150)).texts
    settings = FitSettings(num_train_epochs=10, learning_rate=5e-3, dense_weight=1.0)
    recipe = Recipe(toy_model(), toy_tokenizer(), target="positive", settings=settings, seed=0)
    steps: list[int] = []
    curve = measure_curve(recipe, texts, lambda: steps.append(1))
    n_training = len(texts) - len(texts) // 5 - (1 if len(texts) % 5 else 0)
    assert [p.n_texts for p in curve.points] == pytest.approx([n_training * s for s in (0.25, 0.5, 0.75, 1)], abs=1)
    assert len({p.accuracy.n for p in curve.points}) == 1
    assert curve.points[-1].accuracy.share > 0.9
    assert len(steps) == pytest.approx(curve_steps(recipe, len(texts)), abs=4)
    assert curve.report()["next_gain"]["labels"] == 100


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
