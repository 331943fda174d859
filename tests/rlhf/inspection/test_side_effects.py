"""Planted word shifts are all found, null comparisons stay quiet, and the rewarded word is set apart."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rlhf.inspection.side_effects import (
    Original,
    Tokens,
    along_ladder,
    correlations,
    dirichlet_log_odds,
    rewarded_words,
    score_test,
)

VOCABULARY = 400
ZIPF = 1 / np.arange(1, VOCABULARY + 1)
ZIPF = ZIPF / ZIPF.sum()
NAMES = np.array([f"w{i}" for i in range(VOCABULARY)])


def texts(generator: np.random.Generator, count: int, rates: np.ndarray, repetition: float = 0.0) -> list[str]:
    """Samples of 30 words; with `repetition` a word is often a copy of an earlier one of the same sample."""
    drawn = generator.choice(NAMES, size=(count, 30), p=rates)
    for k in range(1, 30):
        again = generator.random(count) < repetition
        earlier = generator.integers(k, size=count)
        drawn[again, k] = drawn[again, earlier[again]]
    return [" ".join(row) for row in drawn]


@pytest.mark.parametrize("repetition", [0.0, 0.5])
def test_null_comparisons_find_nothing(repetition: float) -> None:
    noisy = 0
    for seed in range(50):
        generator = np.random.default_rng(seed)
        before, after = (texts(generator, 300, ZIPF, repetition) for _ in range(2))
        noisy += bool(Original(before, [0.0] * 300).against(after).terms)
    assert noisy / 50 <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 50)


def test_planted_shifts_are_all_found() -> None:
    rates = ZIPF.copy()
    up, down = [20, 40, 60, 80, 100], [10, 30]
    rates[up] *= 3
    rates[down] /= 3
    rates /= rates.sum()
    false = total = 0
    for seed in range(5):
        generator = np.random.default_rng(seed)
        before, after = texts(generator, 1500, ZIPF), texts(generator, 1500, rates)
        found = {t.term: t for t in Original(before, [0.0] * 1500).against(after).terms if t.words == 1}
        assert {f"w{i}" for i in up + down} <= set(found)
        assert all(found[f"w{i}"].log_odds > 0.5 for i in up)
        assert all(found[f"w{i}"].log_odds < -0.5 for i in down)
        false += len(set(found) - {f"w{i}" for i in up + down})
        total += len(found)
    # Planting moves every other word's share a little too (a factor of 0.97), which the largest samples may notice.
    assert false / total <= 0.15


def test_a_repeating_sample_is_one_witness() -> None:
    # One sample says "joy" twenty times: counted by words it would be overwhelming, by samples it is one of 100.
    before = ["some plain words here"] * 100
    after = ["joy " * 20, *before[1:]]
    old, new = Tokens(before).words(), Tokens(after).words()
    lengths = [np.array([len(text.split()) for text in group], dtype=float) for group in (before, after)]
    z = score_test(old.of(["joy"]), new.of(["joy"]), *lengths)
    assert abs(z[0]) < 1.5
    naive = 20 / math.sqrt(20)
    assert naive > 4


def test_log_odds_by_hand() -> None:
    # Counts 10 of 100 against 20 of 100; pooled 30 of 200, so a = 500·0.15 = 75 of a₀ = 500.
    delta = dirichlet_log_odds(np.array([10.0, 90.0]), np.array([20.0, 80.0]))
    assert delta[0] == pytest.approx(math.log(95 / (600 - 95)) - math.log(85 / (600 - 85)))
    assert delta[0] < math.log((20 / 80) / (10 / 90))  # shrunk


def test_the_rewarded_word_is_set_apart_so_that_the_rest_is_seen() -> None:
    generator = np.random.default_rng(0)
    plain = texts(generator, 400, ZIPF)
    stops = generator.poisson(1.0, 400)
    before = [text + " ." * n for text, n in zip(plain, stops, strict=True)]
    proxy = [float(n) for n in stops]
    # Afterwards: many more full stops, and nothing else.
    after = [text + " ." * 12 for text in texts(generator, 400, ZIPF)]
    assert rewarded_words(Tokens(before), proxy) == {"."}
    effects = Original(before, proxy).against(after)
    assert [term.term for term in effects.rewarded] == ["."]
    assert effects.rewarded[0].log_odds > 1
    assert effects.terms == []  # counted among all words, every other word would have fallen
    careless = Original(before, [0.0] * 400).against(after)
    assert sum(term.log_odds < 0 for term in careless.terms) > 5
    assert rewarded_words(Tokens(plain), [0.0] * 400, r"w1\d") >= {"w10", "w19"}


def test_correlation_with_the_reward_by_hand() -> None:
    counted = Tokens(["a a", "a", "b", "b b", "a b", "b"]).words()
    assert correlations(counted, [2.0, 1.0, 0.0, 0.0, 1.0, 0.0]).tolist() == [0, 0]  # in fewer than 5 samples
    many = Tokens(["a a", "a", "b"] * 5).words()
    # Counts of a are 2, 1, 0 as is the reward: r = 1.
    assert correlations(many, [2.0, 1.0, 0.0] * 5)[0] == pytest.approx(1)
    assert correlations(many, [2.0, None, 0.0] * 5)[1] == pytest.approx(-1)
    assert correlations(many, [1.0] * 15).tolist() == [0, 0]


def test_line_breaks_count_and_rungs_are_compared_with_the_first() -> None:
    ladder = {"a": ["one two three"] * 40, "b": ["one\n\n two three"] * 40, "c": ["one two three"] * 30}
    effects = along_ladder(ladder, [0.0] * 40)
    assert list(effects) == ["b", "c"]
    assert {term.term for term in effects["b"].terms} >= {"⏎", "⏎ ⏎", "one ⏎"}
    assert effects["c"].terms == []
    assert along_ladder({"a": ["", ""], "b": ["", ""]}, [0.0, 0.0])["b"].tested == 0
