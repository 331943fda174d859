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
import re
from collections.abc import Sequence
from typing import Any

from rewards.rules import text_of
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import LabelName
from rlhf.language_model.grammar import PIECES, is_header, is_viable_prefix, is_well_formed

WORD = re.compile(r"[\w']+")
NEUTRAL_BAND = 0.05
"""VADER's customary threshold: a compound score within ±0.05 is neutral."""


class GoldRule:
    """The rule as a function of texts, in the signature of TRL's reward functions.

    `check_lines=False` is for a corpus that is not the embedded one: no grammar says what a readable line is there, so
    the score is the compound of the whole completion and garbling costs nothing; `description` says so.
    """

    def __init__(self, *, check_lines: bool = True) -> None:
        self.check_lines = check_lines
        self.__name__ = "gold" if check_lines else "lexicon"

    @property
    def description(self) -> str:
        """One clause for people: what the rule reads, and what it does not."""
        if self.check_lines:
            return "lexicon sentiment of the lines (VADER compound, -1 to 1); a garbled line counts 0"
        return "lexicon sentiment (VADER compound, -1 to 1); readability is not checked on this corpus"

    def knows(self, completion: str, prompt: str = "") -> bool:
        """Whether the rule can tell anything of a text: the grammar derives a line of it, or the lexicon has a word."""
        if self.check_lines:
            return any(readable for readable, _ in _spoken_lines(prompt, completion))
        return compound(completion) != 0.0 or any(
            word in _analyzer().lexicon for word in WORD.findall(completion.lower())
        )

    def ignorance(self, completions: Sequence[str], prompts: Sequence[str], option: str) -> str:
        """A clause on how little the rule knows of some texts; "" where it knows half of them or more.

        `option` is how the rule `lexicon` is asked for, in place of this one.
        Of the lexicon alone it is enough to know one: a text without such a word is neutral, not foreign.
        """
        return self.ignorance_of(sum(map(self.knows, completions, prompts)), len(completions), option)

    def ignorance_of(self, known: int, texts: int, option: str) -> str:
        """`ignorance` of so many texts of which the rule knows something of `known`."""
        if 2 * known >= texts or (known and not self.check_lines):
            return ""
        if not self.check_lines:
            return "the rule knows no word of these texts (its lexicon has English words of feeling)"
        if not known:
            why = "(the embedded corpus's grammar derives no line of them)"
            return f"the rule knows no word of these texts {why}; {option} reads any English text"
        share = f"{known:,} of {texts:,} texts ({known / texts:.1%})"
        told = f"the embedded corpus's grammar derives a line of {share} only, the others score 0"
        return f"{told}; {option} reads any English text"

    def require_known(self, completions: Sequence[str], prompts: Sequence[str], place: str) -> None:
        """Raises InputError where the grammar derives no line of any text: all of them would be neutral."""
        self.require_some(any(map(self.knows, completions, prompts)), len(completions), place)

    def require_some(self, known: int, texts: int, place: str) -> None:
        """`require_known` of so many texts of which the rule knows something of `known`."""
        if self.check_lines and not known:
            raise InputError(
                place,
                got=f"{texts:,} texts, and the embedded corpus's grammar derives no line of any",
                expected="samples of a model of the embedded corpus",
                fix="give --gold lexicon, which reads any English text",
            )

    def score(self, completion: str, prompt: str = "") -> float:
        """Sentiment of a completion in [-1, 1]; `prompt` only helps to read the line that the completion goes on."""
        if not self.check_lines:
            return compound(completion)
        lines = [(readable, line, len(PIECES.findall(line))) for readable, line in _spoken_lines(prompt, completion)]
        total = sum(pieces for _, _, pieces in lines)
        weighted = sum((compound(line) if readable else 0.0) * pieces for readable, line, pieces in lines)
        return weighted / total if total else 0.0

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


def _spoken_lines(prompt: str, completion: str) -> list[tuple[bool, str]]:
    """Each spoken line that reaches beyond the prompt, and whether the grammar derives it."""
    lines = (prompt + completion).split("\n")
    found: list[tuple[bool, str]] = []
    end = -1
    for number, line in enumerate(lines, start=1):
        end += 1 + len(line)
        if not line or end <= len(prompt) or is_header(line):
            continue
        found.append((is_well_formed(line) or (number == len(lines) and is_viable_prefix(line)), line))
    return found


@functools.lru_cache(maxsize=100_000)
def compound(text: str) -> float:
    """VADER's compound score of a text, in [-1, 1]: s / √(s² + 15), s the sum of the words' valences by its rules."""
    return float(_analyzer().polarity_scores(text)["compound"])


@functools.cache
def _analyzer() -> Any:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()
