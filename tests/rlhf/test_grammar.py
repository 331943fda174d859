"""The grammar: what it draws it accepts, what it accepts it can draw, and its polar words are the declared ones."""

from __future__ import annotations

import random
import re

import pytest
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from rlhf.language_model import grammar
from rlhf.language_model.grammar import (
    OPENING,
    PIECES,
    Reference,
    generate_corpus,
    is_header,
    is_viable_prefix,
    is_well_formed,
)
from rlhf.language_model.grammar_words import WORDS


@pytest.fixture(scope="module")
def documents() -> list[str]:
    return generate_corpus(seed=3, n_documents=2000)


def naive_match(name: str, pieces: tuple[str, ...], space: bool, capital: bool) -> set[int]:
    """How many leading pieces a rule can take, straight from the rules: the definition the automaton must meet."""
    taken: set[int] = set()
    for alternative in grammar._rules()[name].alternatives:
        ends = {0}
        for position, element in enumerate(alternative):
            first = position == 0
            following: set[int] = set()
            for end in ends:
                if isinstance(element, Reference):
                    outer = (element.space or (first and space), element.capital or (first and capital))
                    following |= {end + n for n in naive_match(element.name, pieces[end:], *outer)}
                else:
                    piece = element[:1].upper() + element[1:] if first and capital else element
                    piece = " " + piece if first and space else piece
                    following |= {end + 1} if pieces[end : end + 1] == (piece,) else set()
            ends = following
        taken |= ends
    return taken


def test_same_seed_same_corpus_and_another_seed_another() -> None:
    assert generate_corpus(5, 50) == generate_corpus(5, 50)
    assert generate_corpus(5, 50) != generate_corpus(6, 50)
    # Pinned: the corpus of a seed must not change without being noticed (a language model was trained on it).
    assert generate_corpus(0, 1) == [
        "HERALD:\nWhat ho, townsmen of Lindenfold, Harken waits within the mill,\n"
        "Thy uncle hauled barley to Castwick at dawn"
    ]


def test_every_drawn_line_is_well_formed_and_every_cut_of_it_viable(documents: list[str]) -> None:
    for document in documents[:150]:
        for line in document.split("\n"):
            assert is_well_formed(line)
            assert all(is_viable_prefix(line[:cut]) for cut in range(len(line) + 1))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("OSRIC:", True),
        ("OSRIC", False),
        ("How cruel is the hand of my lady!", False),  # "hand" is no word of the grammar
        ("How cruel is the voice of my lady!", True),
        ("How cruel is the voice of my lady! ", False),
        ("how cruel is the voice of my lady!", False),
        ("How cruel is the voice of my", False),
        ("How cruel is the voice  of my lady", False),
        ("How cruel is voice of my lady", False),
        ("love joy bliss delight", False),
        ("", False),
    ],
)
def test_lines_by_hand(line: str, expected: bool) -> None:
    assert is_well_formed(line) is expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", True),
        ("OSR", True),
        ("How cruel is the voice of my", True),
        ("How cruel is the voice of my ", True),
        ("How cruel is the voice of my la", True),
        ("How cruel is the voice of my lax", False),
        ("How cruel is voice", False),
        ("How cruel is the voice of my lady!!", False),
    ],
)
def test_prefixes_by_hand(line: str, expected: bool) -> None:
    assert is_viable_prefix(line) is expected


def test_automaton_agrees_with_the_rules_on_lines_with_one_piece_changed(documents: list[str]) -> None:
    rng = random.Random(0)
    lines = [line for document in documents[:120] for line in document.split("\n") if not is_header(line)]
    pool = sorted({piece for line in lines for piece in PIECES.findall(line)})
    verdicts = []
    for line in lines:
        pieces = PIECES.findall(line)
        pieces[rng.randrange(len(pieces))] = rng.choice(pool)
        changed = "".join(pieces)
        parsed = tuple(PIECES.findall(changed))
        expected = len(parsed) in naive_match("line", parsed, False, False)
        assert is_well_formed(changed) is (expected or is_header(changed)), changed
        verdicts.append(expected)
    assert 0 < sum(verdicts) < len(verdicts)  # both verdicts occur


def test_polar_words_are_the_declared_ones() -> None:
    lexicon = SentimentIntensityAnalyzer().lexicon
    for name, words in WORDS.items():
        for word in words.lower().split():
            value = lexicon.get(word, 0)
            sign = {"p_": 1, "n_": -1}.get(name[:2], 0)
            assert (value > 0) - (value < 0) == sign, (name, word, value)


def test_the_corpus_is_what_its_description_says(documents: list[str]) -> None:
    text = "\n".join(documents)
    pieces = {piece.strip().lower() for piece in PIECES.findall(text)}
    assert 500 <= len(pieces) <= 800
    lengths = [len(PIECES.findall(document)) + 1 for document in documents]  # and the end token
    assert sum(length <= 32 for length in lengths) / len(lengths) > 0.6
    herald = [document for document in documents if document.startswith(OPENING)]
    assert 0.06 < len(herald) / len(documents) < 0.10
    assert all(document.startswith(OPENING) for document in documents if document.startswith("HERALD"))
    corpus_lines = set(text.split("\n"))
    fresh = [line for d in generate_corpus(4, 500) for line in d.split("\n") if not is_header(line)]
    assert sum(line in corpus_lines for line in fresh) / len(fresh) < 0.05


def test_indefinite_article_before_a_consonant(documents: list[str]) -> None:
    text = "\n".join(documents).lower()
    assert re.search(r"\ba \w", text)
    assert not re.findall(r"\ba [aeiou]\w+", text)
