"""What a rater is asked: the question, the choices with their keys, and what each choice means.

One `Screen` serves Label Studio (`label_config`), the offline page and the way back from an answer to a record.
Template names follow Label Studio's own: text classification has `text` and the control `sentiment`; preferences
have `prompt, answer1, answer2` and the control `comparison`.
https://labelstud.io/templates/sentiment_analysis, https://labelstud.io/templates/pairwise_comparison
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree

from rlhf.foundation.errors import InputError
from rlhf.foundation.records import LABELS

Kind = Literal["judgement", "comparison", "rating"]
# text: shown as it is; hh: "\n\nHuman: ...\n\nAssistant: ..."; messages: a JSON list of {"role", "content"}
PromptFormat = Literal["text", "hh", "messages"]

# A text of any length keeps the buttons on the page. Regions and their panels, Paragraphs' filter, clock times and
# marking tools are of no use here. Colours follow Label Studio's light and dark themes.
STYLE = """
.lsf-sidepanels { padding-right: 0 !important; }
.lsf-sidepanels__wrapper { display: none; }
.screen { max-width: 1120px; margin: 0 auto; }
.screen h3 { font-size: 20px; margin: 18px 0 10px !important; }
.lsf-richtext { max-height: 55vh; overflow: auto; border: 1px solid var(--color-neutral-border, #d5dae1);
  border-left: 4px solid #4a60a9; border-radius: 8px; padding: 12px; }
.lsf-richtext__container { line-height: 1.55; }
.prompt { max-height: 36vh; overflow: auto; margin-bottom: 12px; }
.prompt .lsf-richtext { max-height: none; background: var(--color-neutral-surface, #f6f7f9); border-left-width: 1px;
  border-left-color: var(--color-neutral-border, #d5dae1); }
.prompt ~ .lsf-richtext, .prompt ~ .sides .lsf-richtext { max-height: 34vh; }
.prompt [class^=wrapper_header], .prompt [class^=time--], .prompt [class^=selectAllBtn] { display: none; }
.prompt [class^=container--] { padding: 0; }
.prompt [class^=phrase--] { display: block; width: auto; max-width: 100%; margin-right: 0; padding: 10px 16px; }
.prompt [class^=dialoguetext] { white-space: pre-wrap; }
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: 16px; }
.sides .lsf-richtext { height: 100%; }
.lsf-choice__item { border: 1px solid var(--color-neutral-border, #d5dae1); border-radius: 8px; padding: 6px 14px;
  margin-right: 10px; }
.lsf-choice__item label { margin-right: 0; }
"""
NO_PROMPT = "(no prompt)"


@dataclass(frozen=True, slots=True)
class Screen:
    """One labelling screen. `meaning` maps a choice to a label, to first/second/tie, or to a rating.

    With `shows_reasons` a field beside the texts holds the rater's own first answer and a reward model's reasons.
    """

    kind: Kind
    question: str
    choices: tuple[str, ...]
    meaning: Mapping[str, str]
    control: str
    prompt_format: PromptFormat = "text"
    shows_reasons: bool = False

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


def own_question(
    question: str, choices: Sequence[str], meaning: Mapping[str, str], *, prompt_format: PromptFormat = "text"
) -> Screen:
    """A judgement by the user's own criterion. Every choice must mean positive, neutral or negative.

    Raises InputError when a choice has no meaning, is repeated, or there are fewer than two or more than nine.
    """
    names = tuple(choice.strip() for choice in choices if choice.strip())
    if not 2 <= len(names) <= 9 or len(set(names)) < len(names):
        raise InputError(
            "--choices",
            got=", ".join(names) or "nothing",
            expected="two to nine distinct choices (their keys are 1 to 9)",
            fix="for example --choices Yes,No,Unsure",
        )
    for name in (*names, *meaning):
        if name not in meaning or name not in names or meaning[name] not in LABELS:
            raise InputError(
                "--map",
                got=f"{name}={meaning.get(name, 'nothing')}",
                expected=f"each of {', '.join(names)} = positive, neutral or negative",
                fix="for example --map Yes=positive,No=negative,Unsure=neutral",
            )
    return Screen("judgement", question, names, dict(meaning), "judgement", prompt_format)


def label_config(screen: Screen, *, shows_prompt: bool) -> str:
    """Label Studio's XML for a screen. Choices carry the keys 1, 2, 3, ... in their order.

    Fields a task needs: `text` (judgement, rating) or `answer1`, `answer2` (comparison), and with `shows_prompt`
    `prompt`, or `turns` for chat; `reasons` where the screen shows them.
    """
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Style").text = STYLE
    screened = ElementTree.SubElement(view, "View", className="screen")
    if shows_prompt:
        box = ElementTree.SubElement(screened, "View", className="prompt")
        if screen.prompt_format == "text":
            ElementTree.SubElement(box, "Text", name="prompt", value="$prompt", selectionEnabled="false")
        else:
            ElementTree.SubElement(
                box,
                "Paragraphs",
                name="prompt",
                value="$turns",
                layout="dialogue",
                nameKey="role",
                textKey="content",
            )
    if screen.kind == "comparison":
        sides = ElementTree.SubElement(screened, "View", className="sides")
        ElementTree.SubElement(sides, "Text", name="answers", value="$answer1", selectionEnabled="false")
        ElementTree.SubElement(sides, "Text", name="right", value="$answer2", selectionEnabled="false")
    else:
        ElementTree.SubElement(screened, "Text", name="text", value="$text", selectionEnabled="false")
    if screen.shows_reasons:
        ElementTree.SubElement(screened, "Header", value="Your first answer, and the reward model's reasons", size="5")
        ElementTree.SubElement(screened, "Text", name="reasons", value="$reasons", selectionEnabled="false")
    ElementTree.SubElement(screened, "Header", value=screen.question, size="4")
    choices = ElementTree.SubElement(
        screened, "Choices", name=screen.control, toName=screen.target, choice="single-radio", showInline="true"
    )
    for key, choice in enumerate(screen.choices, start=1):
        ElementTree.SubElement(choices, "Choice", value=choice, hotkey=str(key))
    return ElementTree.tostring(view, encoding="unicode")


def config_differences(expected: str, found: str) -> list[str]:
    """What someone changed in a label configuration: renamed choices, controls or fields, each named; [] if none.

    Looks, order and hotkeys may change freely; what the way back to a label depends on may not.
    """
    want, got = _essentials(expected), _essentials(found)
    if got is None or want is None:
        return ["the configuration is no longer valid XML"]
    differences = []
    for what, before in want.items():
        after = got.get(what, frozenset())
        gone, new = sorted(before - after), sorted(after - before)
        if gone and new:
            differences.append(f"{what} {_listed(gone)} became {_listed(new)}")
        elif gone:
            differences.append(f"{what} {_listed(gone)} is gone")
        elif new and what != "field":  # one more field to look at changes no answer
            differences.append(f"{what} {_listed(new)} is new")
    return differences


def _essentials(config: str) -> dict[str, frozenset[str]] | None:
    try:
        root = ElementTree.fromstring(config)
    except ElementTree.ParseError:
        return None
    controls = [element for element in root.iter() if element.get("toName")]
    return {
        "control": frozenset(f"{element.tag} {element.get('name')}" for element in controls),
        "choice": frozenset(choice.get("value", "") for control in controls for choice in control.iter("Choice")),
        "field": frozenset(value for element in root.iter() if (value := element.get("value", "")).startswith("$")),
    }


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
