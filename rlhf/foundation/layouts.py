"""One reading of preference data, in whatever layout it comes: TRL's, the hub's, ours.

A row is read into prompt and answers; answers to one prompt share it, and nothing else.
1. Explicit prompt: `prompt` beside the answers, text or messages (TRL), and our own records.
2. Implicit prompt: whole texts or conversations; the prompt is their common beginning, of text up to the last
   "\\n\\nAssistant:" in it (hh-rlhf); a text without that mark has the empty prompt.
3. Both: answers that are whole although there is a prompt (UltraFeedback: a text prompt, and conversations whose user
   says it). The common beginning is the prompt, and must hold the one that is given.
4. `system` beside a `question`, `instruction`, `input` or `prompt` (orca): a conversation of system and user.
Content in parts and ShareGPT's {"from", "value"} are read as conversation.py does. What has two readings is refused.
`score_chosen` and `score_rejected` are no margins: their unit is that of another judge, not the reward's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from rlhf.foundation.cells import read_bool
from rlhf.foundation.conversation import Messages, Text, as_completion, as_messages, prompt_from_text, prompt_to_text
from rlhf.foundation.data_sets import Placed, Row
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import LABELS, LabelName

PROMPTS = ("prompt", "question", "instruction", "input")
SYSTEMS = ("system", "system_prompt")
# Part of what an answer was given to; read nowhere here, so not passed over without a word.
BESIDE = ("history", "context", "tools", "images", "image")
HIDDEN = (*PROMPTS, *SYSTEMS, *BESIDE)
"""Columns that say nothing more once a person has named the prompt's."""
MARK = "\n\nAssistant:"
Texts = Literal["auto", "completions", "whole"]


class PreferenceRow(NamedTuple):
    """One answer to a pair. A completion is a text, also of a conversation when it is one plain assistant's turn.

    `margin` (score units, 0 where nothing is known) is by how much `chosen` should win; `uid` and `annotator` are "" in
    data sets other than ours.
    """

    prompt: Text
    chosen: Text
    rejected: Text
    tie: bool
    margin: float
    uid: str = ""
    annotator: str = ""


class JudgedRow(NamedTuple):
    """One judged completion of TRL's unpaired layout (KTO), as records hold it."""

    prompt: str
    completion: str
    label: LabelName


def read_preference_rows(rows: Sequence[Placed], texts: Texts = "auto") -> list[PreferenceRow]:
    """`read_preference_row` of each; "auto" tells from all of them whether texts are whole."""
    _require_prompts(rows)
    whole = texts == "whole" if texts != "auto" else texts_are_whole(rows, ("chosen", "rejected"))
    return [read_preference_row(row, place, whole=whole) for place, row in rows]


def read_preference_row(row: Row, place: str, *, whole: bool = False) -> PreferenceRow:
    """Prompt, chosen, rejected, tie and margin of a row in any of the layouts.

    `whole` says that plain texts hold their prompt although it stands beside them. Raises InputError naming the place.
    """
    require_columns(row, ("chosen", "rejected"), place)
    prompt, (chosen, rejected) = _exchange(row, ("chosen", "rejected"), place, whole)
    tie = read_bool(row.get("tie"), f"{place}, field 'tie'")
    margin = _margin(row.get("margin"), f"{place}, field 'margin'")
    who = [str(row.get(name) or "") for name in ("uid", "annotator")]
    return PreferenceRow(prompt, chosen, rejected, tie, margin, *who)


def read_judged_rows(rows: Sequence[Placed], texts: Texts = "auto") -> list[JudgedRow]:
    """Prompt, completion and label of rows in TRL's unpaired layout, whole conversations included.

    A label is true (positive) or false (negative), or one of our names. Raises InputError naming the place.
    """
    _require_prompts(rows)
    whole = texts == "whole" if texts != "auto" else texts_are_whole(rows, ("completion",))
    found = []
    for place, row in rows:
        require_columns(row, ("completion", "label"), place)
        prompt, (completion,) = _exchange(row, ("completion",), place, whole)
        text = as_completion(completion, f"{place}, field 'completion'")
        found.append(JudgedRow(prompt_to_text(prompt), text, _label(row["label"], f"{place}, field 'label'")))
    return found


def _require_prompts(rows: Sequence[Placed]) -> None:
    """Raise InputError where a prompt is null though other rows have one; null everywhere means none."""
    if any(row.get("prompt") for _, row in rows):
        for place, row in rows:
            if "prompt" in row and row["prompt"] is None:
                got = "nothing, though other rows have a prompt"
                raise InputError(
                    f"{place}, field 'prompt'", got=got, expected='a prompt, "" for none', fix="mend that row"
                )


def require_columns(row: Row, names: Sequence[str], place: str) -> None:
    """Raise InputError when a row lacks one of these columns."""
    absent = [name for name in names if name not in row]
    if absent:
        raise InputError(
            f"{place}, field '{absent[0]}'",
            got=f"nothing; the columns are {', '.join(row)}",
            expected=f"{' and '.join(names)}, with or without a prompt",
            fix=f"name the column that holds it with --{absent[0]}_column",
        )


def require_encodable(text: Text, place: str) -> None:
    """Raise InputError for text that UTF-8 cannot hold, half of a surrogate pair: no tokenizer reads it."""
    for part in [text] if isinstance(text, str) else [message["content"] for message in text]:
        try:
            part.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                place,
                got=f"half of a character ({part[error.start]!a}) at {error.start}",
                expected="whole Unicode characters",
                fix="mend that text",
            ) from error


def texts_are_whole(rows: Sequence[Placed], answers: Sequence[str]) -> bool:
    """Whether plain answers hold the text prompt that stands beside them: all of them do, or none.

    Our own records (they have an `annotator`) never do. Raises InputError where some do, with both readings.
    """
    held: list[str] = []
    apart: list[str] = []
    for place, row in rows:
        prompt, texts = row.get("prompt"), [str(row[name]) for name in answers if isinstance(row.get(name), str)]
        if not row.get("annotator") and prompt and isinstance(prompt, str) and len(texts) == len(answers):
            (held if _cut(prompt, texts) else apart).append(place)
    if held and apart:
        raise InputError(
            held[0],
            got=f"answers that begin with their prompt, as {len(held)} of {len(held) + len(apart)} rows have them, "
            f"beside answers that do not ({apart[0]})",
            expected="all of them whole (the prompt is cut off), or none (it is repeated)",
            fix="say which with --texts whole or --texts completions",
        )
    return bool(held)


def _exchange(row: Row, names: Sequence[str], place: str, whole: bool) -> tuple[Text, list[Text]]:
    """The prompt and the answers in these columns, each answer without the prompt."""
    prompt, system = _prompt(row, place)
    answers = [_text(row[name], f"{place}, field '{name}'") for name in names]
    for name, answer in zip(names, answers, strict=True):
        require_encodable(answer, f"{place}, field '{name}'")
    require_encodable(prompt, f"{place}, field 'prompt'")
    conversations = [answer for answer in answers if not isinstance(answer, str)]
    if not conversations:
        plain = [str(answer) for answer in answers]
        if isinstance(prompt, str) and not row.get("annotator"):
            prompt, plain = _plain(prompt, plain, whole, place)
        return _with_system(prompt, system, place), list(plain)
    if len(conversations) < len(answers) and isinstance(prompt, str):
        raise InputError(place, got="plain text beside a conversation", expected="one of them", fix="mend that row")
    turns = [[{"role": "assistant", "content": a}] if isinstance(a, str) else a for a in answers]
    messages, rests = _conversations(prompt, turns, place)
    return _with_system(messages, system, place), [_completion(rest, place) for rest in rests]


def _text(value: object, place: str) -> Text:
    if isinstance(value, str):
        return prompt_from_text(value, place)
    if not isinstance(value, list):
        raise InputError(
            place,
            got="nothing" if value is None else f"a {type(value).__name__}",
            expected="a text or a list of {role, content} messages",
            fix="mend that row",
        )
    return as_messages(value, place)


def _prompt(row: Row, place: str) -> tuple[Text, str | None]:
    """The prompt ("" where there is none), and the system's text where there is such a column."""
    beside = [name for name in BESIDE if row.get(name)]
    if beside:
        raise InputError(
            place,
            got=f"a column `{beside[0]}` beside the prompt",
            expected="all that an answer was given to in the prompt",
            fix="put it there, or name the prompt's column with --prompt_column and no other is looked at",
        )
    given = [name for name in PROMPTS if row.get(name) not in (None, "")]
    if len({repr(row[name]) for name in given}) > 1:
        shown = " and ".join(f"`{name}` ({repr(row[name])[:40]})" for name in given[:2])
        raise InputError(
            place, got=f"two prompts: {shown}", expected="one of them", fix="say which with --prompt_column"
        )
    prompt = _text(row[given[0]], f"{place}, field '{given[0]}'") if given else ""
    systems = [name for name in SYSTEMS if name in row]
    if not systems:
        return prompt, None
    system = row[systems[0]] or ""
    if not isinstance(system, str):
        got = f"a {type(system).__name__}"
        raise InputError(f"{place}, field '{systems[0]}'", got=got, expected="a text", fix="mend that row")
    return prompt, system


def _with_system(prompt: Text, system: str | None, place: str) -> Text:
    """The prompt as a conversation that begins with the system's text; as it is where there is no such column."""
    if system is None:
        return prompt
    messages: Messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    told = messages[0]["content"] if messages[0]["role"] == "system" else None
    if told is not None and system and told != system:
        got = f"two system texts: {told[:40]!r} and {system[:40]!r}"
        raise InputError(place, got=got, expected="one of them", fix="leave one out")
    return messages if told is not None or not system else [{"role": "system", "content": system}, *messages]


def _plain(prompt: str, texts: list[str], whole: bool, place: str) -> tuple[str, list[str]]:
    if prompt and not whole:
        return prompt, texts
    cut = _cut(prompt, texts)
    if prompt and not cut:
        raise InputError(
            place,
            got=f"an answer that does not begin with the prompt {prompt[:40]!r}",
            expected="whole texts, as in the other rows",
            fix="mend that row, or give --texts completions",
        )
    return texts[0][:cut], [text[cut:] for text in texts]


def _cut(prompt: str, texts: Sequence[str]) -> int:
    """Where the answers begin in whole texts: after the last mark that they share, else after the prompt; or 0."""
    shared = 0
    if len(texts) > 1:
        shared = next((i for i, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), min(map(len, texts)))
    cut = texts[0].rfind(MARK, 0, shared if len(texts) > 1 else None)
    if cut >= 0 and prompt.strip() in texts[0][: cut + len(MARK)]:
        return cut + len(MARK)
    begins = prompt and all(text.startswith(prompt) for text in texts)
    return len(prompt) if begins else 0


def _conversations(prompt: Text, answers: list[Messages], place: str) -> tuple[Messages, list[Messages]]:
    """The prompt's messages, and of each answer those after them."""
    if not isinstance(prompt, str):
        rests = [_after(prompt, answer, place) for answer in answers]
        more = _n_shared(rests)
        return [*prompt, *rests[0][:more]], [rest[more:] for rest in rests]
    if prompt and all(answer[0]["role"] == "assistant" for answer in answers):
        return [{"role": "user", "content": prompt}], answers
    shared = _n_shared(answers)
    before = answers[0][:shared]
    said = [turn["content"].strip() for turn in before if turn["role"] == "user"]
    if not before or (prompt and prompt.strip() not in said):
        begins = f"{answers[0][0]['role']}: {answers[0][0]['content'][:40]!r}"
        beside = f"the prompt {prompt[:40]!r} beside conversations" if prompt else "conversations without a prompt"
        raise InputError(
            place,
            got=f"{beside} that share {shared} messages and begin with {begins}",
            expected="whole conversations that share the prompt, or a prompt and assistant's turns",
            fix="mend that row",
        )
    return before, [answer[shared:] for answer in answers]


def _n_shared(answers: Sequence[Messages]) -> int:
    """How many messages at the beginning are the same in all, leaving each at least one."""
    most = min(map(len, answers)) - 1
    return next((i for i in range(most) if any(answer[i] != answers[0][i] for answer in answers)), most)


def _after(prompt: Messages, answer: Messages, place: str) -> Messages:
    """What an answer adds to the prompt's messages; a last assistant's message of the prompt may go on in it."""
    n, last = len(prompt), prompt[-1]
    if answer[:n] == prompt and len(answer) > n:
        return answer[n:]
    goes_on = answer[n - 1] if len(answer) >= n > 1 and answer[: n - 1] == prompt[:-1] else None
    if goes_on and last["role"] == goes_on["role"] == "assistant" and goes_on["content"].startswith(last["content"]):
        return [{**goes_on, "content": goes_on["content"][len(last["content"]) :]}, *answer[n:]]
    if answer[0]["role"] == "assistant":
        return answer
    raise InputError(
        place,
        got=f"a prompt that begins with {prompt[0]['role']}: {prompt[0]['content'][:40]!r} beside a conversation that "
        f"begins with {answer[0]['role']}: {answer[0]['content'][:40]!r}",
        expected="a whole conversation that begins with the prompt, or the assistant's turns alone",
        fix="mend that row",
    )


def _completion(messages: Messages, place: str) -> Text:
    """The text of one plain assistant's turn, else the messages; the last must be an assistant's."""
    if messages[-1]["role"] != "assistant":
        got = f"a conversation that ends with the role {messages[-1]['role']!r}"
        raise InputError(place, got=got, expected="an assistant's turn at the end", fix="mend that row")
    plain = len(messages) == 1 and messages[0].keys() == {"role", "content"}
    return str(messages[0]["content"]) if plain else messages


def _label(value: Any, place: str) -> LabelName:
    named = next((name for name in LABELS if value == name), None)
    if named is not None:
        return named
    if value is None or value == "":
        raise InputError(place, got="nothing", expected="true, false or neutral", fix="mend or leave out that row")
    return "positive" if read_bool(value, place) else "negative"


def _margin(value: Any, place: str) -> float:
    if value is None:
        return 0.0
    try:
        number = math.nan if isinstance(value, bool) or not isinstance(value, (int, float)) else float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InputError(place, got=f"{value!r}"[:60], expected="a number", fix="mend that row")
    return number
