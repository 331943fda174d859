"""Copied runs and sameness of samples."""

from __future__ import annotations

import pytest

from rlhf.inspection.memorisation import Corpus, compression_ratio

CORPUS = Corpus("To be, or not to be: that is the question.\nTo be is to do.\n")


@pytest.mark.parametrize(
    ("text", "longest"),
    [
        ("or not to be: that", 6),  # or not to be : that
        ("To be, or not to be: that is the question. to be is to do.", 19),  # all of it, across the line break
        ("we say not to be ever", 3),
        ("to be is to be", 4),  # to be is to; the corpus goes on with "do"
        ("be is", 0),  # shorter than three words
        ("nothing at all", 0),
        ("", 0),
        ("is to do. and more", 4),  # to the corpus' very end
    ],
)
def test_longest_run_by_hand(text: str, longest: int) -> None:
    assert CORPUS.longest_run(text) == longest


def test_the_longest_run_equals_a_plain_search() -> None:
    import random

    generator = random.Random(0)
    corpus = [generator.choice("abcde") for _ in range(400)]
    index = Corpus(" ".join(corpus))
    for _ in range(50):
        sample = [generator.choice("abcde") for _ in range(12)]
        joined = " ".join(corpus)
        runs = [j - i for i in range(12) for j in range(i + 3, 13) if " ".join(sample[i:j]) in joined]
        assert index.longest_run(" ".join(sample)) == max(runs, default=0)


def test_an_empty_corpus_holds_nothing() -> None:
    assert Corpus("").longest_run("one two three") == 0


def test_sameness_raises_the_compression_ratio() -> None:
    different = [f"{i * 7919 % 1000} {i * 104729 % 1000}" for i in range(200)]
    same = compression_ratio([different[0]] * 200)
    other = compression_ratio(different)
    assert same is not None
    assert other is not None
    assert same > 5 * other
    assert compression_ratio([]) is None
