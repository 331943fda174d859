"""Any prompt and completion, through every file there is and back: the same conversation and the same ids."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from labeling.campaign import comparison_tasks, judgement_tasks
from labeling.dialogues import LINE_ENDS
from labeling.folder import Folder
from labeling.importing import import_comparisons, import_labels
from labeling.pairs import pair_samples
from labeling.tables import Columns
from rlhf.foundation.cells import unix_lines
from rlhf.foundation.conversation import as_prompt, prompt_from_text, prompt_to_text
from rlhf.foundation.encoding import TextEncoder, beginning_token
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import Sample, read_comparisons, read_labels, read_samples, write_records
from rlhf.language_model.prompt_files import read_prompts

from .tokenizer_kinds import KINDS, MORNING

WHO: dict[str, Any] = {"annotator": "anna", "created_at": "2026-01-01T00:00:00Z", "origin": "manual"}
# A lone surrogate and NUL are replaced on their way to a screen, and that is counted.
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


@cache
def encoder() -> TextEncoder:
    return TextEncoder(KINDS["chatml"].build(), max_length=None)


def meant(prompt: Any) -> Any:
    """A conversation as it must come back: parts joined, further keys as they were."""
    if isinstance(prompt, str):
        return prompt
    contents = [
        m["content"] if isinstance(m["content"], str) else "".join(p["text"] for p in m["content"]) for m in prompt
    ]
    return [{**message, "content": content} for message, content in zip(prompt, contents, strict=True)]


def by_hand(prompt: Any, completion: str) -> list[int]:
    """The ids of prompt and completion, without the module that is on trial."""
    tokenizer = encoder().tokenizer
    completion = completion.split("<|im_end|>")[0]
    if isinstance(prompt, str):
        text = prompt.removeprefix("<|im_end|>") + completion
        return [beginning_token(tokenizer), *tokenizer(text, add_special_tokens=False)["input_ids"]]
    turns = [(message["role"], message["content"]) for message in prompt]
    before = turns.pop()[1] if turns[-1][0] == "assistant" else ""
    turns.append(("assistant", before + completion))
    text = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def check(record: Any, prompt: Any, texts: list[str], names: list[str]) -> None:
    assert prompt_from_text(record.prompt) == prompt
    assert [getattr(record, name) for name in names] == texts
    for text in texts:
        assert encoder().encode([record.prompt], [text]) == [by_hand(prompt, text)]
        assert encoder().encode([prompt], [text]) == [by_hand(prompt, text)]


def through_the_files(given_prompt: Any, one: str, two: str) -> None:
    prompt = meant(given_prompt)
    held = as_prompt(given_prompt, "row")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_records(root / "s.jsonl", [Sample(f"u{i}", held, text, "m") for i, text in enumerate((one, two))])
        samples = read_samples(root / "s.jsonl")
        for sample, text in zip(samples, (one, two), strict=True):
            check(sample, prompt, [text], ["completion"])
        form: Any = "text" if isinstance(prompt, str) else "messages"
        folder = Folder(root / "folder")
        tasks, counts = judgement_tasks(samples, prompt_format=form)
        assert not counts
        (root / "folder").mkdir()
        folder.write_tasks(tasks)
        labels = [task.label("positive", **WHO) for task in folder.read_tasks().values()]
        write_records(root / "l.jsonl", labels)
        for label, text in zip(read_labels(root / "l.jsonl"), (one, two), strict=True):
            check(label, prompt, [text], ["completion"])
        pairs, _ = pair_samples(samples)
        tasks, counts = comparison_tasks(pairs, seed=0, prompt_format=form)
        assert not counts
        folder.write_tasks(tasks)
        chosen = [
            task.comparison("second" if task.swapped else "first", **WHO) for task in folder.read_tasks().values()
        ]
        write_records(root / "c.jsonl", chosen)
        for comparison in read_comparisons(root / "c.jsonl") if chosen else []:
            check(comparison, prompt, [one, two], ["chosen", "rejected"])


def through_an_export(given_prompt: Any, one: str, two: str) -> None:
    """What Label Studio gives back of tasks that hold the prompt as they were given it: line ends become \\n."""
    prompt, one, two = unix_lines(meant(given_prompt)), *map(unix_lines, (one, two))

    def task(data: dict[str, Any], choice: str, control: str) -> dict[str, Any]:
        result = [{"from_name": control, "to_name": "x", "type": "choices", "value": {"choices": [choice]}}]
        stamp = {"id": 1, "completed_by": 1, "updated_at": "2026-01-01T00:00:00Z", "result": result}
        return {"id": 1, "data": {"prompt": given_prompt, **data}, "annotations": [stamp]}

    with tempfile.TemporaryDirectory() as name:
        path, columns = Path(name) / "a.json", Columns("text", "", "prompt")
        path.write_text(json.dumps([task({"text": one}, "positive", "sentiment")]), encoding="utf-8")
        got = import_labels(path, columns)
        check(got.labels[0], prompt, [one], ["completion"])
        assert bool(got.counts[LINE_ENDS]) == (unix_lines(given_prompt) != given_prompt)
        if one != two:
            path.write_text(
                json.dumps([task({"answer1": one, "answer2": two}, "left", "comparison")]), encoding="utf-8"
            )
            check(import_comparisons(path, columns).comparisons[0], prompt, [one, two], ["chosen", "rejected"])


@settings(max_examples=40, deadline=None)
@given(CONVERSATIONS, SAID, SAID)
def test_conversations_come_back(prompt: Any, one: str, two: str) -> None:
    through_the_files(prompt, one, two)
    through_an_export(prompt, one, two)


def awkward(test: Any) -> Any:
    for text in AWKWARD:
        test = example(text, "[{" + text + "x", "y")(test)
    return test


@settings(max_examples=40, deadline=None)
@given(PLAIN, SAID, SAID)
@awkward
def test_texts_come_back(prompt: str, one: str, two: str) -> None:
    through_the_files(prompt, one, two)
    through_an_export(prompt, one, two)


@pytest.mark.parametrize("written", ['[{"role":"user","content":"hi"}]', '[{"content": "hi",\n "role": "user"}]'])
def test_a_prompt_that_was_written_as_json_is_the_conversation(written: str, tmp_path: Path) -> None:
    row = {"uid": "u", "prompt": written, "completion": "oh", "source": "m"}
    (tmp_path / "s.jsonl").write_text(json.dumps(row) + "\n")
    (sample,) = read_samples(tmp_path / "s.jsonl")
    assert sample.prompt == prompt_to_text([{"role": "user", "content": "hi"}])
    check(sample, [{"role": "user", "content": "hi"}], ["oh"], ["completion"])
    row |= {"prompt": [{"role": "user", "content": "hi"}], "completion": [{"role": "assistant", "content": "oh"}]}
    (tmp_path / "s.jsonl").write_text(json.dumps(row) + "\n")
    assert read_samples(tmp_path / "s.jsonl") == [sample]  # as files hold it now


def test_equal_conversations_are_equal_strings() -> None:
    one = [{"role": "user", "content": "hi", "name": "a", "age": 1}]
    two = [
        {
            "age": 1,
            "content": [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}],
            "name": "a",
            "role": "user",
        }
    ]
    three = json.dumps([{"name": "a", "role": "user", "age": 1, "content": "hi"}])
    assert as_prompt(one, "a") == as_prompt(two, "b") == as_prompt(three, "c")


def test_a_prompt_file_holds_conversations_in_any_spelling(tmp_path: Path) -> None:
    """One conversation is one prompt, and one uid of its sample; what has no text is refused with its row."""
    parts = [{"role": "user", "content": [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]}]
    spellings = [MORNING, parts, [{"from": "human", "value": "hi"}], json.dumps(parts)]
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps({"prompt": x, "mood": i}) + "\n" for i, x in enumerate(spellings)))
    hi = [{"role": "user", "content": "hi"}]
    assert read_prompts(str(path)) == [{"prompt": x, "mood": i} for i, x in enumerate([MORNING, hi, hi, hi])]
    path.write_text(json.dumps({"prompt": "a"}) + "\n" + json.dumps({"prompt": [{"role": "user", "content": None}]}))
    with pytest.raises(InputError, match=r"row 2, message 1: got no content"):
        read_prompts(str(path))
