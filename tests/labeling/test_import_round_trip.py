"""What an import brings in of a task that someone exported: the same conversation, or text, and the same ids."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from labeling.dialogues import LINE_ENDS
from labeling.importing import import_comparisons, import_labels
from labeling.tables import Columns
from rlhf.foundation.cells import unix_lines
from rlhf.foundation.conversation import as_prompt, prompt_from_text
from rlhf.foundation.encoding import TextEncoder
from rlhf.foundation.records import read_comparisons, read_labels, write_records

from ..rlhf.tokenizer_kinds import KINDS

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
SAID = TEXTS.filter(lambda text: bool(text.strip()))
VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)
FURTHER = st.dictionaries(TEXTS.filter(lambda key: key not in ("role", "content")), VALUES, max_size=2)
PARTS = st.lists(st.builds(lambda text: {"type": "text", "text": text}, TEXTS), max_size=3)
MESSAGE = st.builds(
    lambda role, content, further: {**further, "role": role, "content": content},
    st.sampled_from(["user", "assistant", "system"]), st.one_of(TEXTS, PARTS), FURTHER,
)  # fmt: skip
CONVERSATIONS = st.lists(MESSAGE, min_size=1, max_size=3)
PLAIN = TEXTS.filter(lambda text: isinstance(prompt_from_text(text), str))
AWKWARD = [
    "[", "[]", '["a"]', '[{"role": "user"}]', '[{"role": 1, "content": "x"}]', '{"role": "user", "content": "x"}',
    ' [{"role": "user", "content": "x"}]', "<|im_end|>x", "a\r\nb\rc\n", "\u2028\u2029\x85\x1c", "🙂\ufeff", "\ufeff",
]  # fmt: skip


ENCODER = TextEncoder(KINDS["chatml"](), max_length=None)


def meant(prompt: Any) -> Any:
    """A prompt as it must come back: parts joined, further keys as they were, line ends \\n."""
    if isinstance(prompt, str):
        return unix_lines(prompt)
    read = []
    for message in prompt:
        content = message["content"]
        text = content if isinstance(content, str) else "".join(part["text"] for part in content)
        known = {key: value for key, value in message.items() if value is not None}  # a key that is None is no key
        read.append({**known, "content": text})
    return unix_lines(read)


def by_hand(prompt: Any, completion: str) -> list[int]:
    """The ids of prompt and completion, without the module that is on trial."""
    read, completion = ENCODER.tokenizer, completion.split("<|im_end|>")[0]
    if isinstance(prompt, str):
        text = prompt.removeprefix("<|im_end|>") + completion
        return [read.eos_token_id, *read(text, add_special_tokens=False)["input_ids"]]
    turns = [(message["role"], message["content"]) for message in prompt]
    before = turns.pop()[1] if turns[-1][0] == "assistant" else ""
    turns.append(("assistant", before + completion))
    text = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns)
    return list(read(text, add_special_tokens=False)["input_ids"])


def check(record: Any, prompt: Any, texts: list[str], names: list[str]) -> None:
    assert prompt_from_text(record.prompt) == prompt
    assert [getattr(record, name) for name in names] == texts
    assert ENCODER.encode([record.prompt] * len(texts), texts) == [by_hand(prompt, text) for text in texts]


def task(data: dict[str, Any], choice: str, control: str) -> str:
    result = [{"from_name": control, "to_name": "x", "type": "choices", "value": {"choices": [choice]}}]
    stamp = {"id": 1, "completed_by": 1, "updated_at": "2026-01-01T00:00:00Z", "result": result}
    return json.dumps([{"id": 1, "data": data, "annotations": [stamp]}])


def through_an_export(given_prompt: Any, one: str, two: str) -> None:
    prompt, first, second = meant(given_prompt), str(unix_lines(one)), str(unix_lines(two))
    with tempfile.TemporaryDirectory() as name:
        root, columns = Path(name), Columns("text", "", "prompt")
        export, records = root / "a.json", root / "r.jsonl"
        export.write_text(task({"prompt": given_prompt, "text": one}, "positive", "sentiment"), encoding="utf-8")
        got = import_labels(export, columns)
        assert bool(got.counts[LINE_ENDS]) == ((prompt, first) != (unwound(given_prompt), one))
        write_records(records, got.labels)
        check(read_labels(records)[0], prompt, [first], ["completion"])
        if first != second:
            answers = {"prompt": given_prompt, "answer1": one, "answer2": two}
            export.write_text(task(answers, "right", "comparison"), encoding="utf-8")
            write_records(records, import_comparisons(export, columns).comparisons)
            check(read_comparisons(records)[0], prompt, [second, first], ["chosen", "rejected"])


def unwound(prompt: Any) -> Any:
    return prompt if isinstance(prompt, str) else prompt_from_text(as_prompt(prompt, "row"))


@settings(max_examples=40, deadline=None)
@given(CONVERSATIONS, SAID, SAID)
@example([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "the sun"}], " is", "\r\nup")
def test_conversations_come_back(prompt: Any, one: str, two: str) -> None:
    through_an_export(prompt, one, two)


def awkward(test: Any) -> Any:
    for text in AWKWARD:
        test = example(text, "[{" + text + "x", "y")(test)
    return test


@settings(max_examples=40, deadline=None)
@given(PLAIN, SAID, SAID)
@awkward
def test_texts_come_back(prompt: str, one: str, two: str) -> None:
    through_an_export(prompt, one, two)


def test_equal_conversations_are_equal_strings() -> None:
    one = [{"role": "user", "content": "hi", "name": "a", "age": 1}]
    parts = [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]
    two = [{"age": 1, "content": parts, "name": "a", "role": "user"}]
    three = json.dumps([{"name": "a", "role": "user", "age": 1, "content": "hi"}])
    assert as_prompt(one, "a") == as_prompt(two, "b") == as_prompt(three, "c")
