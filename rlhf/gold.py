"""Labelled gold: the noiseless rule that simulated raters follow, and by which overoptimisation is told.

A rater reads sentiment off the words (VADER's compound score; Hutto and Gilbert 2014,
https://ojs.aaai.org/index.php/ICWSM/article/view/14550) and finds a garbled line neutral however positive its words:

    score = Σ_l n_l c_l / Σ_l n_l,   c_l = compound(l) if the grammar derives line l, else 0

over the spoken lines l that the completion wrote at least a part of, n_l their pieces (words and marks); headers are
passed over. The last line may be cut: it is readable if it can still become a line.
Training never reads this rule (it is the oracle); labelling and evaluation do.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from rewards.rules import text_of
from rlhf.foundation.records import LabelName
from rlhf.language_model.grammar import PIECES, is_header, is_viable_prefix, is_well_formed

NEUTRAL_BAND = 0.05
"""VADER's customary threshold: a compound score within ±0.05 is neutral."""


class GoldRule:
    """The rule as a function of texts, in the signature of TRL's reward functions.

    `check_lines=False` is for a corpus that is not the embedded one: no grammar says what a readable line is there, so
    the score is the compound of the whole completion and garbling costs nothing; `description` says so.
    """

    def __init__(self, *, check_lines: bool = True) -> None:
        self.check_lines = check_lines
        self.__name__ = "gold" if check_lines else "gold_words_only"

    @property
    def description(self) -> str:
        """One clause for people: what the rule reads, and what it does not."""
        if self.check_lines:
            return "lexicon sentiment of the lines (VADER compound, -1 to 1); a garbled line counts 0"
        return "lexicon sentiment (VADER compound, -1 to 1); readability is not checked on this corpus"

    def score(self, completion: str, prompt: str = "") -> float:
        """Sentiment of a completion in [-1, 1]; `prompt` only helps to read the line that the completion goes on."""
        if not self.check_lines:
            return compound(completion)
        lines = _spoken_lines(prompt, completion)
        total = sum(pieces for _, pieces in lines)
        return sum(sentiment * pieces for sentiment, pieces in lines) / total if total else 0.0

    def label(self, completion: str, prompt: str = "") -> LabelName:
        """What a rater without noise answers."""
        score = self.score(completion, prompt)
        if score >= NEUTRAL_BAND:
            return "positive"
        return "negative" if score <= -NEUTRAL_BAND else "neutral"

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Any = None, **kwargs: Any
    ) -> list[float]:
        """Scores of completions, one a prompt (TRL's reward-function signature; other columns are not read).

        Of a conversation the answer alone is read: no line of it began in the prompt.
        """
        return [
            self.score(text_of(completion), prompt if isinstance(prompt, str) else "")
            for prompt, completion in zip(prompts, completions, strict=True)
        ]


def _spoken_lines(prompt: str, completion: str) -> list[tuple[float, int]]:
    """(sentiment, pieces) of each spoken line that reaches beyond the prompt; sentiment 0 if it is garbled."""
    lines = (prompt + completion).split("\n")
    found: list[tuple[float, int]] = []
    end = -1
    for number, line in enumerate(lines, start=1):
        end += 1 + len(line)
        if not line or end <= len(prompt) or is_header(line):
            continue
        readable = is_well_formed(line) or (number == len(lines) and is_viable_prefix(line))
        found.append((compound(line) if readable else 0.0, len(PIECES.findall(line))))
    return found


@functools.lru_cache(maxsize=100_000)
def compound(text: str) -> float:
    """VADER's compound score of a text, in [-1, 1]: s / √(s² + 15), s the sum of the words' valences by its rules."""
    return float(_analyzer().polarity_scores(text)["compound"])


@functools.cache
def _analyzer() -> Any:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()
