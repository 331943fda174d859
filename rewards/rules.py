"""Rewards that are rules, in TRL's reward-function signature.

`f(prompts, completions, completion_ids=None, **kwargs) -> list[float]`: one number a completion, in the order given.
Only the completion is judged, never the prompt; of a conversation its messages' content.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer


class RewardFunc(Protocol):
    """TRL's reward function: raw rewards (None where a completion could not be scored)."""

    __name__: str

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        **kwargs: Any,
    ) -> list[float] | list[float | None]: ...


def text_of(completion: Any) -> str:
    """The text of a completion: itself, or the contents of a conversation's messages, a line each."""
    return completion if isinstance(completion, str) else "\n".join(str(turn["content"]) for turn in completion)


def full_stop(
    prompts: Sequence[Any],
    completions: Sequence[Any],
    completion_ids: Sequence[Sequence[int]] | None = None,
    **kwargs: Any,
) -> list[float]:
    """Number of full stops in the completion."""
    return [float(text.count(".")) for text in map(text_of, completions)]


def full_stop_share(
    prompts: Sequence[Any],
    completions: Sequence[Any],
    completion_ids: Sequence[Sequence[int]] | None = None,
    **kwargs: Any,
) -> list[float]:
    """Share of the completion's characters that are full stops, 0 to 1; 0 for an empty completion."""
    return [text.count(".") / max(1, len(text)) for text in map(text_of, completions)]


def full_stop_at_16_to_24(
    prompts: Sequence[Any],
    completions: Sequence[Any],
    completion_ids: Sequence[Sequence[int]] | None = None,
    **kwargs: Any,
) -> list[float]:
    """1 if one of tokens 16 to 24 (counted from 1) is a full stop, else 0.

    The constraint of Ziegler et al. 2019, "Fine-Tuning Language Models from Human Preferences". Tokens are words with
    the space before them, marks, and line breaks: those of `rlhf pretrain`, whatever the policy's own tokenizer does.
    """
    return [float("." in _TOKEN.findall(text_of(completion))[15:24]) for completion in completions]


_TOKEN = re.compile(r" ?\w+|[^\w\s]|\s")


def length(
    prompts: Sequence[Any],
    completions: Sequence[Any],
    completion_ids: Sequence[Sequence[int]] | None = None,
    **kwargs: Any,
) -> list[float]:
    """Length of the completion in words (runs of characters between white space)."""
    return [float(len(text.split())) for text in map(text_of, completions)]


def lexicon_sentiment(
    prompts: Sequence[Any],
    completions: Sequence[Any],
    completion_ids: Sequence[Sequence[int]] | None = None,
    **kwargs: Any,
) -> list[float]:
    """VADER's compound sentiment of the completion, -1 (negative) to 1 (positive), 0 for no sentiment.

    Hutto & Gilbert 2014, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text".
    """
    analyzer = _vader()
    return [float(analyzer.polarity_scores(text)["compound"]) for text in map(text_of, completions)]


@functools.cache
def _vader() -> SentimentIntensityAnalyzer:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()


RULES: dict[str, RewardFunc] = {
    rule.__name__: cast(RewardFunc, rule)
    for rule in (full_stop, full_stop_share, full_stop_at_16_to_24, length, lexicon_sentiment)
}
