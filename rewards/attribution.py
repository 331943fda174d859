"""What a reward pays for: its score after each prefix, and what each word was worth by leaving it out.

Works on any reward function, since it only asks for scores of texts (occlusion: Zeiler and Fergus 2014, section 4.2;
leave-one-out on words: Li et al. 2016, "Understanding Neural Networks through Representation Erasure").
"""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rewards.calling import RewardFunction, call_reward, reward_name
from rlhf.foundation.errors import InputError

PIECES = re.compile(r"\s*\w+|\s*[^\w\s]|\s+$")
"""A word or a mark with the space before it; joined again the pieces give the text back."""


def score(reward: RewardFunction, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
    """The scores as plain numbers. Raises InputError where the reward leaves a text unscored (None)."""
    found = call_reward(reward, prompts, completions)
    if any(value is None for value in found):
        raise InputError(
            f"reward function {reward_name(reward)}",
            got="no score (None) for some texts",
            expected="a number for every text",
            fix="leave those texts out, or mend the reward",
        )
    return [value for value in found if value is not None]


def prefix_scores(reward: RewardFunction, prompt: str, completion: str) -> list[tuple[str, float]]:
    """(piece, score of the completion up to and including it) for every word and mark; first ("", empty one)."""
    pieces = PIECES.findall(completion)
    prefixes = ["".join(pieces[:i]) for i in range(len(pieces) + 1)]
    scores = score(reward, [prompt] * len(prefixes), prefixes)
    return list(zip(["", *pieces], scores, strict=True))


class Worth(NamedTuple):
    """One word of one text: what the score loses when it is left out."""

    piece: str
    worth: float


def occlusion(reward: RewardFunction, prompts: Sequence[str], completions: Sequence[str]) -> list[list[Worth]]:
    """For each text and each of its pieces: score(text) - score(text without the piece)."""
    split = [PIECES.findall(completion) for completion in completions]
    texts, owners = list(completions), list(prompts)
    for prompt, pieces in zip(prompts, split, strict=True):
        for i in range(len(pieces)):
            texts.append("".join(pieces[:i] + pieces[i + 1 :]))
            owners.append(prompt)
    scores = score(reward, owners, texts)
    whole, rest = scores[: len(completions)], iter(scores[len(completions) :])
    return [[Worth(piece, full - next(rest)) for piece in pieces] for pieces, full in zip(split, whole, strict=True)]


@dataclass(frozen=True, slots=True)
class WordWorth:
    """What a word was worth on average over the texts that hold it, with its standard error over those texts."""

    word: str
    n_texts: int
    worth: float
    standard_error: float

    @property
    def certain(self) -> bool:
        """Whether the worth lies more than 3 standard errors from 0."""
        return abs(self.worth) > 3 * self.standard_error


def word_worths(occluded: Sequence[Sequence[Worth]], *, at_least: int = 3) -> list[WordWorth]:
    """Worth by word (lower case, spaces dropped) from the most loved to the most hated.

    A word that a text repeats counts once there, with the mean of its places. Words of fewer than `at_least` texts
    are left out: their error could not be told.
    """
    by_word: dict[str, list[float]] = defaultdict(list)
    for pieces in occluded:
        places: dict[str, list[float]] = defaultdict(list)
        for piece, worth in pieces:
            if piece.strip():
                places[piece.strip().lower()].append(worth)
        for word, worths in places.items():
            by_word[word].append(statistics.fmean(worths))
    found = [
        WordWorth(word, len(worths), statistics.fmean(worths), statistics.stdev(worths) / len(worths) ** 0.5)
        for word, worths in by_word.items()
        if len(worths) >= max(2, at_least)
    ]
    return sorted(found, key=lambda word: -word.worth)


def loved_and_hated(worths: Sequence[WordWorth], n: int = 10) -> tuple[list[WordWorth], list[WordWorth]]:
    """The `n` words that the reward certainly pays for most, and the `n` it certainly takes most for."""
    loved = [word for word in worths if word.certain and word.worth > 0][:n]
    hated = [word for word in reversed(worths) if word.certain and word.worth < 0][:n]
    return loved, hated
