"""What a rater is asked: the question, the choices with their keys, and what each choice means.

One `Screen` serves Label Studio (`label_config`), the offline page and the way back from an answer to a record.
Template names follow Label Studio's own: text classification has `text` and the control `sentiment`; preferences
have `prompt, answer1, answer2` and the control `comparison`.
https://labelstud.io/templates/sentiment_analysis, https://labelstud.io/templates/pairwise_comparison
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["judgement", "comparison", "rating"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# text: shown as it is; hh: "\n\nHuman: ...\n\nAssistant: ..."; messages: a JSON list of {"role", "content"}
PromptFormat = Literal["text", "hh", "messages"]
PROMPT_FORMATS: tuple[PromptFormat, ...] = get_args(PromptFormat)

# A text of any length keeps the buttons on the page.
STYLE = (
    ".lsf-richtext{max-height:55vh;overflow:auto} .prompt .lsf-richtext{max-height:25vh;color:#555;background:#f6f6f6}"
)


@dataclass(frozen=True, slots=True)
class Screen:
    """One labelling screen. `meaning` maps a choice to a label, to first/second/tie, or to a rating."""

    kind: Kind
    question: str
    choices: tuple[str, ...]
    meaning: Mapping[str, str]
    control: str
    prompt_format: PromptFormat = "text"

    @property
    def target(self) -> str:
        """Name of the object that the control belongs to."""
        return "answers" if self.kind == "comparison" else "text"


SENTIMENT = Screen(
    "judgement",
    "Is the feeling of this text positive, negative or neutral?",
    ("Positive", "Negative", "Neutral"),
    {"Positive": "positive", "Negative": "negative", "Neutral": "neutral"},
    "sentiment",
)
COMPARISON = Screen(
    "comparison",
    "Which text is better?",
    ("Left", "Right", "Tie"),
    {"Left": "first", "Right": "second", "Tie": "tie"},
    "comparison",
)
RATING = Screen(
    "rating",
    "How good is this text? 1 is worst, 5 is best.",
    ("1", "2", "3", "4", "5"),
    {str(n): str(n) for n in range(1, 6)},
    "rating",
)
