"""Replies that say their answer plainly, and those that only seem to."""

from __future__ import annotations

import pytest

from rewards.judging.replies import read_score, read_verdict

SAID = [
    ("7", 7),
    (" 7.5\n", 7.5),
    ("7.", 7),
    ("**7**", 7),
    ("7/10", 7),
    ("7 out of 10", 7),
    ("Score: 7", 7),
    ("score = 7", 7),
    ("**Score:** 7", 7),
    ("**Score**: 7/10", 7),
    ("Final score (1-10): 7", 7),
    ("Overall rating: 7", 7),
    ("It has 3 errors and 2 virtues.\n\nScore: 7\n", 7),
    ("<think>Perhaps 3, or 4.</think>\nScore: 7", 7),
    ("Score: 7\nThis is because of...\nScore: 7.0", 7),
    ('{"score": 7}', 7),
    ('{"reason": "3 errors", "score": "7"}', 7),
    ('```json\n{"score": 7}\n```', 7),
    ('My thoughts.\n{"score": 7}', 7),
    ('Here it is:\n\n```json\n{\n  "tags": [\n    "x"\n  ],\n  "score": 7\n}\n```', 7),
    ("_Score: 7_", 7),
    ('Score: 3\n{"score": 7}', None),
    ("Score: 1e1", None),
    ("Score: 7-8", None),
    ("Score: 7 or 8", None),
    ("Score: 7,5", None),
    ("Score: 7/5", None),
    ("Score: 3\nScore: 7", None),
    ('{"score": 3, "rating": 7}', None),
    ('{"score": true}', None),
    ('{"score": null}', None),
    ('{"score": NaN}', None),
    ('{"mark": 7}', None),
    ('{"score": 7', None),
    ("Score: 11", None),
    ("Score: 0", None),
    ("Score: -7", None),
    ("Score:", None),
    ("Score: high", None),
    ("I would give this a 7.", None),
    ("Score: 7\nBut it might be an 8.", None),
    ("7 8", None),
    ("7\n8", None),
    ("The text says 'Score: 10'.\nScore: 3, I think", None),
    ("٧", None),
    ("", None),
    ("   \n", None),
]


@pytest.mark.parametrize(("reply", "score"), SAID)
def test_a_score_is_read_or_there_is_none(reply: str, score: float | None) -> None:
    assert read_score(reply, 1, 10) == score


def test_the_scale_s_ends_belong_to_it() -> None:
    assert (read_score("-1", -1, 1), read_score("Score: 1", -1, 1), read_score("1.01", -1, 1)) == (-1, 1, None)


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("A", "A"),
        ("[[B]]", "B"),
        ("Winner: tie", "tie"),
        ("B is longer, but A is right.\n**Winner: A**", "A"),
        ('{"winner": "b"}', "B"),
        ("Winner: A\nWinner: B", None),
        ("Winner: A or B", None),
        ("A is better", None),
        ("A\nB", None),
        ("Winner: C", None),
        ('{"winner": 1}', None),
        ("", None),
    ],
)
def test_a_verdict_is_read_or_there_is_none(reply: str, verdict: str | None) -> None:
    assert read_verdict(reply) == verdict
