"""What was sampled comes back from the labellers as it was: the same conversation, and the same ids for the reward."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from labeling.campaign import comparison_tasks, judgement_tasks
from labeling.chat import prompt_form
from labeling.folder import Folder
from labeling.pairs import Pair
from rlhf.foundation.conversation import Text, as_prompt, prompt_from_text
from rlhf.foundation.encoding import TextEncoder
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import write_jsonl
from rlhf.foundation.records import Sample, read_comparisons, read_labels, read_samples, write_records

from ..rlhf.tokenizer_kinds import KINDS

ENCODER = TextEncoder(KINDS["chatml"](), max_length=None)
# A NUL is replaced on the way to the server, and a text of white space alone shows a rater nothing: both are told.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
SHOWN = TEXTS.filter(str.strip)
JSON = st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | TEXTS, lambda inner: st.lists(inner, max_size=2))
ROLES = st.sampled_from(["user", "assistant", "system"])


@st.composite
def messages(draw: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A conversation as a file may give it, and as it is: contents in one piece, role and content first."""
    given_rows, right = [], []
    for _ in range(draw(st.integers(1, 3))):
        role, parts = draw(ROLES), draw(st.lists(TEXTS, max_size=3))
        extra = draw(st.dictionaries(st.sampled_from(["name", "Ω", "id"]), JSON, max_size=2))
        content: Any = [{"type": "text", "text": part} for part in parts] if draw(st.booleans()) else "".join(parts)
        given_rows.append({**extra, "content": content, "role": role})
        known = {key: value for key, value in extra.items() if value is not None}  # as `datasets` fills rows up
        right.append({"role": role, "content": "".join(parts), **known})
    return given_rows, right


def passed_on(prompt: str, first: str, second: str) -> list[tuple[str, str]]:
    """Prompt and completions as a label, and as a comparison, bring them back through all files."""
    with tempfile.TemporaryDirectory() as name:
        root, folder = Path(name), Folder(Path(name) / "labels")
        write_records(root / "samples.jsonl", [Sample("a", prompt, first, "m"), Sample("b", prompt, second, "m")])
        samples = read_samples(root / "samples.jsonl")
        found = [(sample.prompt, sample.completion) for sample in samples]
        tasks, _ = judgement_tasks(samples)
        compared, _ = comparison_tasks([Pair("p", samples[0].prompt, first, second)], seed=1)
        folder.write_tasks([*tasks, *compared])
        known = folder.read_tasks()
        rest: Any = {"annotator": "ann", "origin": "manual"}
        write_records(root / "labels.jsonl", [known[uid].label("positive", **rest) for uid in ("a", "b")])
        shown_left = "second" if known["p"].swapped else "first"
        write_records(root / "comparisons.jsonl", [known["p"].comparison(shown_left, **rest)])
        found += [(label.prompt, label.completion) for label in read_labels(root / "labels.jsonl")]
        (row,) = read_comparisons(root / "comparisons.jsonl")
        return [*found, (row.prompt, row.chosen), (row.prompt, row.rejected)]


@settings(max_examples=80, deadline=None)
@given(messages(), SHOWN, SHOWN)
def test_conversations_come_back_with_the_same_ids(
    conversation: tuple[list[dict[str, Any]], list[dict[str, Any]]], first: str, second: str
) -> None:
    given_rows, right = conversation
    back = passed_on(as_prompt(given_rows, "here"), first, second)
    assert [prompt_from_text(prompt) for prompt, _ in back] == [right] * 6
    assert [completion for _, completion in back] == [first, second] * 3
    assert prompt_form([back[0][0]]) == "messages"
    ids = ENCODER.encode([right] * 2, [first, second])
    assert ENCODER.encode([p for p, _ in back], [c for _, c in back]) == ids * 3
    # The given form, in which parts may come, is read alike where TRL hands it over itself.
    assert ENCODER.encode([given_rows], [[{"role": "assistant", "content": first}]]) == ids[:1]
    # In one piece, as the template writes it, of an assistant's last message and what continues it.
    last = right[-1]
    whole = [*right[:-1], {**last, "content": last["content"] + first.split("<|im_end|>")[0]}]
    if last["role"] == "assistant":
        text = ENCODER.tokenizer.apply_chat_template(whole, tokenize=False)
        assert ids[0] == ENCODER.tokenizer(text, add_special_tokens=False)["input_ids"]


@settings(max_examples=80, deadline=None)
@given(TEXTS, SHOWN, SHOWN)
@example("[1, 2]", "[", "{}")
@example('[{"role": "user"}]', '[{"role": "user", "content": "no prompt, but a completion"}]', "x")
@example("<|im_end|>a\r\nb\u2028c\x85d", "\r\n🙂 \u2029", "\ufeff")
@example(" ", "null", '"x"')
def test_plain_texts_come_back_with_the_same_ids(prompt: str, first: str, second: str) -> None:
    back = passed_on(prompt, first, second)
    assert back == [(prompt, first), (prompt, second)] * 3
    read: list[list[int]] = ENCODER.tokenizer(
        # The beginning token, which is here the end token, is put in front once.
        [prompt.removeprefix("<|im_end|>") + text.split("<|im_end|>")[0] for text in (first, second)]
    )["input_ids"]
    ids = [[ENCODER.first_id, *row] for row in read]
    assert ENCODER.encode([p for p, _ in back], [c for _, c in back]) == ids * 3


def test_files_that_hold_a_conversation_as_text_are_read_alike(tmp_path: Path) -> None:
    asked = [{"role": "user", "content": "Grüße,\n“how” are 你?"}, {"role": "assistant", "content": ""}]
    forms: list[Text] = [asked, json.dumps(asked), json.dumps(asked, ensure_ascii=False, indent=1)]
    rows = [{"uid": f"u{i}", "prompt": form, "completion": "fine", "source": "m"} for i, form in enumerate(forms)]
    write_jsonl(tmp_path / "samples.jsonl", rows)
    assert len({sample.prompt for sample in read_samples(tmp_path / "samples.jsonl")}) == 1
    row = {"uid": "u", "prompt": forms[1], "chosen": "a", "rejected": "b", "annotator": "ann"}
    write_jsonl(tmp_path / "comparisons.jsonl", [row])
    assert prompt_from_text(read_comparisons(tmp_path / "comparisons.jsonl")[0].prompt) == asked


@pytest.mark.parametrize("extra", [{"at": float("nan")}, {"by": {1, 2}}, {"of": object()}])
def test_what_a_file_cannot_hold_is_refused_where_it_stands(extra: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"row 3, message 1: got \{.*; expected text, numbers, lists and objects"):
        as_prompt([{"role": "user", "content": "hm", **extra}], "row 3")


def test_a_long_conversation_is_cut_turn_by_turn_however_it_is_shown() -> None:
    """Cut as JSON it would be no conversation any more, and the label would be of another text."""
    asked = [{"role": "user", "content": "a" * 30}, {"role": "user", "content": "b\0"}]
    (task,), counts = judgement_tasks([Sample("u", as_prompt(asked, "here"), "c", "m")], max_characters=20)
    right = [{"role": "user", "content": "a" * 20}, {"role": "user", "content": "b\ufffd"}]
    assert prompt_from_text(task.prompt) == right
    assert counts == {"cut to 20 characters": 1, "NUL replaced": 1}
