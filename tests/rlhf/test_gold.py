"""Labelled gold: values by hand from VADER's published formula, garbled lines at 0."""

from __future__ import annotations

import math
import time
from collections import Counter

import pytest

from rewards.gold import GoldRule, compound
from rlhf.evaluation.evaluate import EvaluateConfig, load_functions
from rlhf.language_model.grammar import generate_corpus

# Lexicon values: love 3.2, joy 2.8, cruel -2.8, grief -2.2; compound = s / sqrt(s^2 + 15), rounded to 4 places.
TOLERANCE = 1e-4


def squash(valence: float) -> float:
    return valence / math.sqrt(valence**2 + 15)


def test_compound_is_vaders() -> None:
    assert compound("How cruel is the voice of my lady") == pytest.approx(squash(-2.8), abs=TOLERANCE)
    # A negation within three words before turns a value by -0.74; "no" loses its own.
    assert compound("I have no grief in Verrin") == pytest.approx(squash(-2.2 * -0.74), abs=TOLERANCE)


def test_lines_are_weighted_by_their_pieces() -> None:
    text = "OSRIC:\nHow cruel is the voice of my lady!\nWho brought the cup to Verrin at dawn?"
    # 9 pieces (eight words and a mark) at compound(first line), 9 at 0; the header counts for nothing.
    first = compound("How cruel is the voice of my lady!")
    assert first < -0.5
    assert GoldRule().score(text) == pytest.approx(first * 9 / 18, abs=TOLERANCE)


def test_a_garbled_line_is_neutral_however_positive() -> None:
    rule = GoldRule()
    assert rule.score("OSRIC:\nlove joy bliss delight love love\n") == 0.0
    assert rule.label("love joy bliss delight love love\nOSRIC:") == "neutral"
    assert GoldRule(check_lines=False).score("love joy bliss") == pytest.approx(squash(3.2 + 2.8 + 2.7), abs=TOLERANCE)


def test_only_the_last_line_may_be_cut() -> None:
    rule = GoldRule()
    cut = "How cruel is the voice of"
    assert rule.score(f"OSRIC:\n{cut}") == pytest.approx(squash(-2.8), abs=TOLERANCE)
    assert rule.score(f"OSRIC:\n{cut}\nOSRIC:") == 0.0


def test_the_prompt_helps_to_read_but_is_not_judged() -> None:
    rule = GoldRule()
    # The line is "How cruel is the voice of my lady", readable only with its prompt.
    assert rule.score(" is the voice of my lady", "OSRIC:\nHow cruel") == pytest.approx(squash(-2.8), abs=TOLERANCE)
    assert rule.score(" is the voice of my lady") == 0.0
    # A line that lies wholly in the prompt says nothing about the completion.
    assert rule.score("\nWho brought the cup to Verrin at dawn?", "How cruel is the voice of my lady") == 0.0
    assert rule.score("", "How cruel is the voice of my lady") == 0.0


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("OSRIC:\nHow cruel is the voice of my lady", "negative"),
        ("OSRIC:\nHow sweet is the voice of my lady", "positive"),
        ("OSRIC:\nWho brought the cup to Verrin at dawn?", "neutral"),
        ("", "neutral"),
        ("OSRIC:", "neutral"),
    ],
)
def test_labels(text: str, label: str) -> None:
    assert GoldRule().label(text) == label


def test_reward_function_signature() -> None:
    rule = GoldRule()
    assert rule.__name__ == "gold"
    scores = rule(
        prompts=["", ""], completions=["OSRIC:", "How sweet is the voice of my lady"], completion_ids=[[1], [2]]
    )
    assert scores[0] == 0.0
    assert scores[1] == pytest.approx(squash(2.0), abs=TOLERANCE)
    assert "not checked" in GoldRule(check_lines=False).description


def test_the_corpus_has_its_moods_and_is_judged_quickly() -> None:
    documents = generate_corpus(2, 4000)
    rule = GoldRule()
    start = time.process_time()
    shares = Counter(rule.label(document) for document in documents)
    assert time.process_time() - start < 4.0  # seconds of processor time; under 2 s on an idle core
    assert 0.33 < shares["positive"] / 4000 < 0.42
    assert 0.33 < shares["negative"] / 4000 < 0.42


FOREIGN = ["What say you, sir?\nThe duke is come from Mantua.", "Nay, gentle Romeo, we must have you dance.\n"] * 10


def test_what_the_rule_knows_of_texts() -> None:
    rule, words = GoldRule(), GoldRule(check_lines=False)
    own = generate_corpus(3, 20)
    assert rule.ignorance(own, [""] * 20, "--gold lexicon") == ""
    assert rule.ignorance([*own, *FOREIGN], [""] * 40, "--gold lexicon") == ""  # half of them
    assert "derives a line of 1 of 21 texts (4.8%) only" in rule.ignorance(
        [own[0], *FOREIGN], [""] * 21, "--gold lexicon"
    )
    assert rule.ignorance(FOREIGN, [""] * 20, "--gold lexicon").startswith("the rule knows no word of these texts")
    assert "; --gold lexicon reads any English text" in rule.ignorance(FOREIGN, [""] * 20, "--gold lexicon")
    assert words.ignorance(FOREIGN, [""] * 20, "--gold lexicon") == ""  # "gentle" is in the lexicon
    assert "no word" in words.ignorance(["der Tisch steht"], [""], "--gold lexicon")
    assert rule.knows(" is the voice of my lady", "OSRIC:\nHow cruel")
    assert not rule.knows("OSRIC:")  # a header is no line that was spoken


def test_one_rule_has_one_name() -> None:
    assert GoldRule(check_lines=False).__name__ == "lexicon"
    config = EvaluateConfig(run="x", gold_reward_func=["gold_words_only", "embedded"])
    assert list(load_functions(config)[0]) == ["lexicon", "gold"]
