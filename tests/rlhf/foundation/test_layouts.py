"""Every layout of preference data reads to the same prompt and answers; what has two readings is refused."""

from __future__ import annotations

from typing import Any

import pytest

from rlhf.foundation.errors import InputError
from rlhf.foundation.layouts import read_judged_rows, read_preference_row, read_preference_rows


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def bot(text: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


SYSTEM = {"role": "system", "content": "Be brief."}
ASKED = [user("Name a bird.")]
DIALOG = "\n\nHuman: Name a bird.\n\nAssistant:"
LONG = "\n\nHuman: Hi.\n\nAssistant: Hello.\n\nHuman: Name a bird.\n\nAssistant:"

LAYOUTS: dict[str, tuple[dict[str, Any], tuple[Any, Any, Any]]] = {
    "explicit, plain": ({"prompt": "A bird:", "chosen": " wren", "rejected": " fork"}, ("A bird:", " wren", " fork")),
    "no prompt, plain": ({"chosen": "wren", "rejected": "fork"}, ("", "wren", "fork")),
    "a null prompt": ({"prompt": None, "chosen": "wren", "rejected": "fork"}, ("", "wren", "fork")),
    "implicit, plain (hh-rlhf)": (
        {"chosen": DIALOG + " Wren.", "rejected": DIALOG + " Fork."},
        (DIALOG, " Wren.", " Fork."),
    ),
    "implicit, several turns": (
        {"chosen": LONG + " Wren.", "rejected": LONG + " Wren fork."},
        (LONG, " Wren.", " Wren fork."),
    ),
    "explicit, conversation": (
        {"prompt": ASKED, "chosen": [bot("Wren.")], "rejected": [bot("Fork.")]},
        (ASKED, "Wren.", "Fork."),
    ),
    "implicit, conversation": (
        {"chosen": [*ASKED, bot("Wren.")], "rejected": [*ASKED, bot("Fork.")]},
        (ASKED, "Wren.", "Fork."),
    ),
    "prompt and whole conversations": (
        {"prompt": ASKED, "chosen": [*ASKED, bot("Wren.")], "rejected": [*ASKED, bot("Fork.")]},
        (ASKED, "Wren.", "Fork."),
    ),
    "text prompt and whole conversations (UltraFeedback)": (
        {
            "prompt": "Name a bird.",
            "chosen": [*ASKED, bot("Wren.")],
            "rejected": [*ASKED, bot("Fork.")],
            "score_chosen": 9.0,
            "score_rejected": 1.0,
        },
        (ASKED, "Wren.", "Fork."),
    ),
    "the same with a system turn in front": (
        {
            "prompt": "Name a bird.",
            "chosen": [SYSTEM, *ASKED, bot("Wren.")],
            "rejected": [SYSTEM, *ASKED, bot("Fork.")],
        },
        ([SYSTEM, *ASKED], "Wren.", "Fork."),
    ),
    "text prompt and assistant's turns": (
        {"prompt": "Name a bird.", "chosen": [bot("Wren.")], "rejected": [bot("Fork.")]},
        (ASKED, "Wren.", "Fork."),
    ),
    "several turns, and one part": (
        {
            "prompt": "Hi.",
            "chosen": [user("Hi."), bot("Hello."), *ASKED, bot("Wren.")],
            "rejected": [user("Hi."), bot("Hello."), *ASKED, bot("Fork.")],
        },
        ([user("Hi."), bot("Hello."), *ASKED], "Wren.", "Fork."),
    ),
    "orca": (
        {"system": "Be brief.", "question": "Name a bird.", "chosen": "Wren.", "rejected": "Fork."},
        ([SYSTEM, *ASKED], "Wren.", "Fork."),
    ),
    "orca without a system text": (
        {"system": "", "question": "Name a bird.", "chosen": "Wren.", "rejected": "Fork."},
        (ASKED, "Wren.", "Fork."),
    ),
    "parts": (
        {
            "prompt": [user([{"type": "text", "text": "Name "}, {"type": "text", "text": "a bird."}])],
            "chosen": [bot([{"type": "text", "text": "Wren."}])],
            "rejected": [bot("Fork.")],
        },
        (ASKED, "Wren.", "Fork."),
    ),
    "ShareGPT": (
        {
            "chosen": [{"from": "human", "value": "Name a bird."}, {"from": "gpt", "value": "Wren."}],
            "rejected": [{"from": "human", "value": "Name a bird."}, {"from": "gpt", "value": "Fork."}],
        },
        (ASKED, "Wren.", "Fork."),
    ),
    "keys that `datasets` fills with null": (
        {
            "prompt": [{**user("Name a bird."), "name": None}],
            "chosen": [{**bot("Wren."), "tool_calls": None}],
            "rejected": [{**bot("Fork."), "tool_calls": None}],
        },
        (ASKED, "Wren.", "Fork."),
    ),
    "a record of ours, whose prompt is a conversation as JSON": (
        {
            "prompt": '[{"role": "user", "content": "Name a bird."}]',
            "chosen": "Wren.",
            "rejected": "Fork.",
            "annotator": "ana",
            "uid": "u",
        },
        (ASKED, "Wren.", "Fork."),
    ),
    "an assistant's message to continue": (
        {"prompt": [*ASKED, bot("A bird is")], "chosen": [bot(" a wren.")], "rejected": [bot(" a fork.")]},
        ([*ASKED, bot("A bird is")], " a wren.", " a fork."),
    ),
    "the same, whole": (
        {
            "prompt": [*ASKED, bot("A bird is")],
            "chosen": [*ASKED, bot("A bird is a wren.")],
            "rejected": [*ASKED, bot("A bird is a fork.")],
        },
        ([*ASKED, bot("A bird is")], " a wren.", " a fork."),
    ),
    "answers of several turns": (
        {
            "prompt": ASKED,
            "chosen": [bot("Wren."), user("Why?"), bot("It sings.")],
            "rejected": [bot("Fork."), user("Why?"), bot("It bites.")],
        },
        (
            ASKED,
            [bot("Wren."), user("Why?"), bot("It sings.")],
            [bot("Fork."), user("Why?"), bot("It bites.")],
        ),
    ),
    "an empty answer": ({"prompt": "A bird:", "chosen": " wren", "rejected": ""}, ("A bird:", " wren", "")),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str) -> None:
    row, expected = LAYOUTS[layout]
    (read,) = read_preference_rows([("f, line 1", row)])
    assert read[:3] == expected
    assert read[3:] == (False, 0.0, row.get("uid", ""), row.get("annotator", ""))


def test_a_null_prompt_is_no_prompt_only_where_no_row_has_one() -> None:
    null = {"prompt": None, "chosen": "x", "rejected": "y"}
    assert [row.prompt for row in read_preference_rows([("f, line 1", null), ("f, line 2", null)])] == ["", ""]
    with pytest.raises(InputError, match="f, line 1, field 'prompt': got nothing, though other rows have a prompt"):
        read_preference_rows([("f, line 1", null), ("f, line 2", {**null, "prompt": "p"})])
    with pytest.raises(InputError, match="f, line 1, field 'prompt': got nothing, though"):
        read_judged_rows(
            [(f"f, line {n}", {"prompt": p, "completion": "x", "label": True}) for n, p in ((1, None), (2, "p"))]
        )


@pytest.mark.parametrize("prompt", ["Name a bird.", DIALOG])
def test_whole_texts_beside_their_prompt_are_cut(prompt: str) -> None:
    """The prompt may be the text's beginning, or what the human says in it; twice it must not be read."""
    row = {"prompt": prompt, "chosen": DIALOG + " Wren.", "rejected": DIALOG + " Fork."}
    (read,) = read_preference_rows([("f, line 1", row)])
    assert read[:3] == (DIALOG, " Wren.", " Fork.")


def test_some_whole_texts_are_refused_with_both_readings_and_can_be_said() -> None:
    apart = {"prompt": "A", "chosen": " wren", "rejected": " fork"}
    held = {"prompt": "A", "chosen": "A wren", "rejected": "A fork"}
    rows = [("f, line 1", apart), ("f, line 2", held), ("f, line 3", apart)]
    with pytest.raises(
        InputError, match=r"f, line 2: got answers that begin with .* as 1 of 3 rows .* \(f, line 1\); "
    ):
        read_preference_rows(rows)
    assert [row.chosen for row in read_preference_rows(rows, "completions")] == [" wren", "A wren", " wren"]
    with pytest.raises(InputError, match="line 1: got an answer that does not begin with the prompt 'A'"):
        read_preference_rows(rows, "whole")
    assert [row.chosen for row in read_preference_rows([rows[1]] * 2)] == [" wren", " wren"]
    # Our own records hold completions, whatever they begin with.
    ours = {**held, "annotator": "ana"}
    assert read_preference_rows([("f, line 1", ours)])[0].chosen == "A wren"


@pytest.mark.parametrize(
    ("value", "tie"),
    [("false", False), ("False", False), (False, False), (None, False), ("no", False), (0, False), (0.0, False),
     ("true", True), ("Yes", True), (True, True), (1, True), (1.0, True)],
)  # fmt: skip
def test_ties(value: object, tie: bool) -> None:
    assert read_preference_row({"chosen": "x", "rejected": "y", "tie": value}, "f").tie is tie


PAIR = {"prompt": "p", "chosen": "x", "rejected": "y"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"prompt": "p", "chosen": "x"},
            r"f, field 'rejected': got nothing; the columns are prompt, chosen; .*_column",
        ),
        ({**PAIR, "rejected": None}, "field 'rejected': got nothing"),
        ({**PAIR, "prompt": 3}, "field 'prompt': got a int"),
        ({**PAIR, "chosen": [bot("x")]}, "got plain text beside a conversation"),
        ({**PAIR, "prompt": [user(None)]}, "field 'prompt', message 1: got no content"),
        ({**PAIR, "chosen": [bot(None)], "rejected": [bot("y")]}, "field 'chosen', message 1: got no content"),
        ({**PAIR, "prompt": [user([{"type": "image"}])]}, "part of type 'image'"),
        ({**PAIR, "tie": "perhaps"}, "field 'tie': got 'perhaps'; expected true or false"),
        ({**PAIR, "tie": 2}, "field 'tie': got 2"),
        ({**PAIR, "margin": "much"}, "field 'margin': got 'much'; expected a number"),
        ({**PAIR, "margin": True}, "field 'margin': got True"),
        ({**PAIR, "margin": float("nan")}, "field 'margin': got nan"),
        ({**PAIR, "margin": 10**400}, "field 'margin': got 1000"),
        ({**PAIR, "question": "q"}, r"two prompts: `prompt` \('p'\) and `question` \('q'\); .* --prompt_column"),
        ({**PAIR, "history": "before"}, "got a column `history` beside the prompt"),
        ({**PAIR, "tools": [{"name": "search"}]}, "got a column `tools` beside the prompt"),
        ({**PAIR, "system": 3}, "field 'system': got a int"),
        ({**PAIR, "prompt": [SYSTEM, *ASKED], "system": "Be long."}, "two system texts: 'Be brief.' and 'Be long.'"),
        (
            {"prompt": "Name a fork.", "chosen": [*ASKED, bot("x")], "rejected": [*ASKED, bot("y")]},
            "the prompt 'Name a fork.' beside conversations that share 1 messages and begin with user: 'Name a bird.'",
        ),
        (
            {"prompt": [user("Name a fork.")], "chosen": [*ASKED, bot("x")], "rejected": [*ASKED, bot("y")]},
            "a prompt that begins with user: 'Name a fork.' beside a conversation that begins with user: 'Name a b",
        ),
        (
            {"chosen": [*ASKED, bot("x")], "rejected": [user("Name a fork."), bot("y")]},
            "conversations without a prompt that share 0 messages",
        ),
        ({"chosen": [*ASKED, user("x")], "rejected": [*ASKED, user("y")]}, "ends with the role 'user'"),
        ({**PAIR, "chosen": "x \ud83d"}, r"field 'chosen': got half of a character \('\\ud83d'\) at 2"),
        ({**PAIR, "prompt": [user("\udc00")]}, "field 'prompt': got half of a character"),
    ],
)
def test_unusable_rows_are_one_line(row: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_preference_rows([("f", row)])
    assert str(caught.value).startswith("f")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "p ", "completion": "x", "label": True}, ("p ", "x", "positive")),
        ({"completion": "x", "label": 0}, ("", "x", "negative")),
        ({"prompt": "p ", "completion": "x", "label": "neutral"}, ("p ", "x", "neutral")),
        (
            {"prompt": ASKED, "completion": [bot("Wren.")], "label": "false"},
            ('[{"role": "user", "content": "Name a bird."}]', "Wren.", "negative"),
        ),
        (
            {"prompt": "Name a bird.", "completion": [*ASKED, bot("Wren.")], "label": True},
            ('[{"role": "user", "content": "Name a bird."}]', "Wren.", "positive"),
        ),
        (
            {"completion": [*ASKED, bot("Wren.")], "label": True},
            ('[{"role": "user", "content": "Name a bird."}]', "Wren.", "positive"),
        ),
        ({"prompt": "Name", "completion": "Name a bird.", "label": True}, ("Name", " a bird.", "positive")),
        ({"completion": DIALOG + " Wren.", "label": True}, (DIALOG, " Wren.", "positive")),
        (  # a conversation is judged as a whole: one text, wherever its last turn is set off
            {"prompt": [user("a")], "completion": [bot("b"), user("c"), bot("d")], "label": True},
            (
                '[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, '
                '{"role": "user", "content": "c"}]',
                "d",
                "positive",
            ),
        ),
    ],
)
def test_unpaired_layouts(row: dict[str, Any], expected: tuple[str, str, str]) -> None:
    assert read_judged_rows([("f", row)]) == [expected]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"completion": "x"}, "field 'label': got nothing; the columns are completion"),
        ({"completion": "x", "label": None}, "field 'label': got nothing; expected true, false or neutral"),
        ({"completion": "x", "label": 3}, "field 'label': got 3; expected true or false"),
    ],
)
def test_unusable_judgements(row: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_judged_rows([("f", row)])
