"""Several raters' answers to one pair: pooled as judgements are, margins with their sign; counted by hand."""

from __future__ import annotations

import itertools

import pytest

from rewards.preference_pooling import pool_comparisons, pool_preferences
from rewards.preferences import Preference, answer
from rlhf.foundation.records import Comparison

from .test_preferences import comparison


def preferred(preference: Preference, text: str = "joy") -> float:
    """P(text preferred), whichever side it stands on."""
    return preference.target if preference.first == text else 1 - preference.target


def test_answers_to_one_pair_are_pooled_from_both_sides() -> None:
    rows = [
        comparison("joy", "woe"),
        comparison("woe", "joy", annotator="bob"),
        comparison("joy", "woe", annotator="cleo"),
        comparison("woe", "joy", tie=True, annotator="dan"),
    ]
    (pooled,) = pool_comparisons(
        [Comparison("u", c.prompt, c.chosen, c.rejected, c.annotator, c.tie) for c in rows], "share"
    ).pairs
    # 1, 0, 1, 1/2 for joy.
    assert preferred(pooled) == pytest.approx(2.5 / 4)
    assert pooled.n_answers == 4
    assert pooled.prompt == "p: "
    assert pooled.said == (1.0 if pooled.first == "joy" else 0.0)  # two of four for joy, one for woe


def test_the_order_of_a_pair_tells_nothing() -> None:
    pairs = pool_comparisons([comparison(f"good {i}", f"bad {i}") for i in range(200)]).pairs
    first = sum(p.target == 1 for p in pairs)
    assert 70 < first < 130
    assert all(preferred(pair, f"good {i}") == 1.0 for i, pair in enumerate(pairs))


def test_margins_are_averaged_with_their_sign_in_any_order() -> None:
    rows = [
        answer("p", "joy", "woe", tie=False, margin=2.0, uid="u", annotator="anna"),
        answer("p", "woe", "joy", tie=False, margin=0.5, uid="u", annotator="bob"),
        answer("p", "joy", "woe", tie=True, margin=9.0, uid="u", annotator="cleo"),
    ]
    # Towards joy: (2 - 1/2 + 0) / 3 = 1/2. The first row's margin would be 2, with bob's row first 1/2 the wrong way.
    for order in itertools.permutations(rows):
        (pair,) = pool_preferences(list(order)).pairs
        assert pair.margin == (0.5 if pair.first == "joy" else -0.5)


def test_margins_of_a_rater_who_is_left_out_do_not_count() -> None:
    rows = []
    for i in range(60):
        good, bad, sides = f"good {i}", f"bad {i}", (("good", "bad"), ("bad", "good"))
        for name in ("ana", "ben"):
            rows.append(answer("", good, bad, tie=False, margin=1.0, uid=f"u{i}", annotator=name))
        won, lost = (f"{word} {i}" for word in sides[i % 2])
        rows.append(answer("", won, lost, tie=False, margin=7.0, uid=f"u{i}", annotator="coin"))
    found = pool_preferences(rows)
    assert list(found.pooled.left_out) == ["coin"]
    assert {abs(pair.margin) for pair in found.pairs} == {1.0}
    assert {pair.n_answers for pair in found.pairs} == {2}
    assert all(preferred(pair, f"good {i}") > 0.9 for i, pair in enumerate(found.pairs))
    report = found.report()
    assert (report["answers"], report["counted"], report["annotators"]) == (120, 180, 3)
    assert list(report["pooling"]["left_out"]) == ["coin"]


def test_rows_that_name_nobody_all_count_the_same() -> None:
    rows = [
        answer("p", "joy", "woe", tie=False),
        answer("p", "joy", "woe", tie=False),
        answer("p", "woe", "joy", tie=False),
    ]
    found = pool_preferences(rows)
    (pair,) = found.pairs
    assert preferred(pair) == pytest.approx(2 / 3)
    assert pair.n_answers == 3
    assert found.report()["unnamed_answers"] == 3
    assert found.lines() == []


def test_twins_doubles_and_pairs_of_equal_texts() -> None:
    rows = [
        answer("p", "joy", "woe", tie=False, uid="u", annotator="anna"),
        answer("p", "joy", "woe", tie=False, uid="u", annotator="anna"),  # the row a second time
        answer("p", "woe\r\n", "joy ", tie=False, uid="v", annotator="bob"),  # the pair again, other line ends
        answer("p", "same", "same\n", tie=False, uid="w", annotator="bob"),
        answer(
            "p",
            [{"role": "assistant", "content": "e\u0301 "}],
            [{"role": "assistant", "content": "x"}],
            tie=False,
            uid="x",
            annotator="bob",
        ),
        answer(
            "p",
            [{"role": "assistant", "content": "é"}],
            [{"role": "assistant", "content": "x"}],
            tie=False,
            uid="y",
            annotator="anna",
        ),
    ]
    found = pool_preferences(rows, "share")
    assert [pair.n_answers for pair in found.pairs] == [2, 2]
    assert found.pairs[0].target == 0.5  # anna joy, bob woe; with the doubled row it would be 2/3
    report = found.report()
    assert (report["doubled_rows"], report["twin_texts"], report["equal_pairs"]) == (1, 2, 1)
