"""Which rows count, and what is told of the rest; literal rows, counted by hand."""

from __future__ import annotations

import pytest

from labeling.counting import count_comparisons, count_once, plain
from labeling.pooling import pool
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import Comparison, Label


def label(uid: str, text: str, name: str, annotator: str) -> Label:
    return Label(uid, "", text, name, annotator)  # type: ignore[arg-type]


def test_what_a_reader_sees() -> None:
    assert plain("cafe\u0301 \r\nx\r\n") == "café \nx"
    assert plain(" x") == " x"  # a space in front belongs to the word
    assert plain([{"role": "user", "content": "x "}]) == plain([{"content": "x", "role": "user"}])


def test_rows_names_and_texts_are_told() -> None:
    rows = [
        label("1", "x", "positive", "Ana"),
        label("1", "x", "negative", "Ana "),  # one rater's row twice: the later counts
        label("2", "x\r\n", "negative", "ana"),  # the text under another uid; a rater of her own, but told
        label("3", "y", "neutral", "Jose\u0301"),
        label("4", "y", "neutral", "José"),  # y again under another uid: two answers
    ]
    counted = count_once(rows)
    assert [(row.uid, row.annotator, row.label) for row in counted.labels] == [
        ("1", "Ana", "negative"),
        ("1", "ana", "negative"),
        ("3", "José", "neutral"),
        ("3", "José", "neutral"),
    ]
    assert counted.kept == [1, 2, 3, 4]
    assert counted.lines() == [
        "rows that repeat a rater's row on the same task: 1 (1 with another answer); the later one counts",
        "texts that differ from another by white space or Unicode form only: 1; counted with it",
        "Ana is written in 2 ways ('Ana', 'Ana '): counted as one rater",
        "José is written in 2 ways ('José', 'José'): counted as one rater".replace("José'", "Jose\u0301'", 1),
        "'Ana', 'ana' differ by case only: counted as 2 raters; rename one if it is one",
    ]
    assert pool(counted.labels).counts == {"1": 2, "3": 2}
    assert count_once([rows[0], rows[3]]).lines() == []


def test_one_uid_with_two_texts() -> None:
    with pytest.raises(InputError, match="uid 1: got two different texts"):
        count_once([label("1", "x", "positive", "a"), label("1", "y", "positive", "a")])


def test_pairs_are_one_whichever_side_they_stood_on() -> None:
    rows = [
        Comparison("u", "p", "joy", "woe", "ana"),
        Comparison("v", "p", "woe ", "joy", "ben"),  # the pair again, a space more
        Comparison("w", "p", "joy", "woe", "cid", tie=True),
        Comparison("x", "p", "same", "same ", "ana"),
    ]
    counted = count_comparisons(rows)
    answers = {row.annotator: row.label for row in counted.labels}
    assert {row.uid for row in counted.labels} == {"u"}
    assert {answers["ana"], answers["ben"]} == {"positive", "negative"}
    assert answers["cid"] == "neutral"
    assert (counted.rows, counted.twins, counted.equal) == (4, 1, 1)


def test_good_texts_that_come_first_in_the_alphabet_make_nobody_a_coin() -> None:
    """Two raters who always choose `a ...` over `b ...` agree: in the alphabet's order by chance alone, kappa 0."""
    rows = [Comparison(f"u{i}", "", f"a {i}", f"b {i}", who) for i in range(60) for who in ("ana", "ben")]
    assert pool(count_comparisons(rows).labels).left_out == {}
