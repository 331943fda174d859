"""Prompts from every kind of file and data set, row by row; what is no prompt is named by its line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from rlhf import PPOConfig, PPOTrainer
from rlhf.foundation.errors import InputError
from rlhf.language_model.prompt_files import as_both_rows, load_prompt_dataset, read_prompts
from rlhf.ppo.finetune import PPOCommandConfig
from rlhf.ppo.finetune import load_rows as load_training_rows
from rlhf.ppo.normalization import from_reward_file
from rlhf.sampling import SampleConfig, load_rows

HI = [{"role": "user", "content": "hi"}]
ROWS: list[dict[str, Any]] = [{"prompt": "a"}, {"prompt": HI, "answer": 7}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


@pytest.mark.parametrize("name", ["p.jsonl", "p.JSONL", "p.ndjson", "p.json", "p.Json"])
def test_json_is_read_as_json_whatever_its_suffix(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + LINES.replace("\n", "\r\n").encode())
    assert read_prompts(str(tmp_path / name)) == ROWS


def test_a_json_list_and_other_tables(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps(ROWS, indent=1))
    assert read_prompts(str(tmp_path / "p.json")) == ROWS
    (tmp_path / "p.CSV").write_text('ask,n\n"a, b",1\nc,2\n')
    assert read_prompts(str(tmp_path / "p.CSV"), "ask") == [
        {"ask": "a, b", "n": 1, "prompt": "a, b"},
        {"ask": "c", "n": 2, "prompt": "c"},
    ]
    Dataset.from_list([{"prompt": "a"}]).to_parquet(tmp_path / "p.parquet")
    assert read_prompts(str(tmp_path / "p.parquet")) == [{"prompt": "a"}]


def test_text_is_one_prompt_a_line(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes("\ufeffa b\r\n\r\n{c}\u2028d\r\n".encode())
    assert read_prompts(str(tmp_path / "p.txt")) == [{"prompt": "a b"}, {"prompt": "{c}\u2028d"}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.jsonl", '{"prompt": "a"}\n\n{"prompt": null}\n', r"p\.jsonl, line 3: got no `prompt`; .* or name the col"),
        ("p.jsonl", '{"prompt": "a"}\n{"text": "b"}\n', r"p\.jsonl, line 2: got no `prompt`"),
        ("p.jsonl", '{"prompt": 3}\n', "line 1: got a int as prompt"),
        ("p.jsonl", '{"prompt": "\\ud800"}\n', r"line 1, prompt: got half of a character \('\\ud800'\) at 0"),
        ("p.jsonl", '{"prompt": [{"role": "user", "content": null}]}\n', "line 1, prompt, message 1: got no content"),
        ("p.json", '[{"prompt": "a"}, 3]', r"p\.json, item 2: got a JSON int; expected an object"),
        ("p.json", "[]", r"p\.json: got no prompt; expected at least one"),
        ("p.txt", "\n \n", r"p\.txt: got no prompt"),
        ("p.jsonl", "a b\n", "line 1: got no valid JSON"),
        ("p.parquet", "a b\n", r"--dataset_name: got .*p\.parquet \("),
    ],
)
def test_what_is_no_prompt_is_one_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        read_prompts(str(tmp_path / name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["no.jsonl", "no.csv", "no.txt"])
def test_files_that_are_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_prompts(str(tmp_path / name))


def test_data_sets_on_disk(tmp_path: Path) -> None:
    rows = Dataset.from_list([{"ask": "a"}, {"ask": "b"}])
    DatasetDict({"train": rows, "test": rows.select([1])}).save_to_disk(tmp_path / "both")
    rows.save_to_disk(tmp_path / "one")
    assert [row["prompt"] for row in load_prompt_dataset(str(tmp_path / "both"), "test", column="ask")] == ["b"]
    assert [row["prompt"] for row in load_prompt_dataset(str(tmp_path / "one"), column="ask")] == ["a", "b"]
    with pytest.raises(InputError, match="got the split 'dev'; expected one of train, test"):
        load_prompt_dataset(str(tmp_path / "both"), "dev")
    with pytest.raises(InputError, match="--prompt_column: got question; expected one of the columns ask"):
        load_prompt_dataset(str(tmp_path / "both"), column="question")
    with pytest.raises(InputError, match="or give --prompts FILE"):
        load_prompt_dataset(str(tmp_path / "nowhere"))


def test_both_commands_take_a_data_set(tmp_path: Path) -> None:
    Dataset.from_list([{"ask": "a"}]).save_to_disk(tmp_path / "one")
    given = {"dataset_name": str(tmp_path / "one"), "prompt_column": "ask"}
    expected = [{"ask": "a", "prompt": "a"}]
    assert load_rows(SampleConfig(model_name_or_path="m", **given)) == expected
    command = PPOCommandConfig(model_name_or_path="m", output_dir="o", reward_func=["full_stop"], **given)
    assert load_training_rows(command) == expected
    with pytest.raises(InputError, match="got --prompts and --dataset_name"):
        SampleConfig(model_name_or_path="m", prompts="p.txt", **given)


def test_a_column_that_only_some_rows_have_is_none_in_the_others() -> None:
    train, evaluation = as_both_rows([{"prompt": "a"}, {"prompt": "b", "x": 1}], [{"prompt": "c", "y": 2}])
    assert train == [{"prompt": "a", "x": None, "y": None}, {"prompt": "b", "x": 1, "y": None}]
    assert evaluation == [{"prompt": "c", "x": None, "y": 2}]
    assert as_both_rows(None, None) == ([{"prompt": ""}], [{"prompt": ""}])
    with pytest.raises(InputError, match=r"train_dataset, row 1, prompt: got half of a character"):
        as_both_rows([{"prompt": "\udfff"}], None)
    with pytest.raises(InputError, match=r"eval_dataset: got splits \(train, test\)"):
        as_both_rows(None, DatasetDict({name: Dataset.from_list([{"prompt": "a"}]) for name in ("train", "test")}))


def test_a_reward_finds_its_column_on_the_rungs(build_model: Callable[[], Any], tokenizer: Any, tmp_path: Path) -> None:
    """The evaluation rows lack the column that the reward names: None there, not a run that ends at its first rung."""
    seen: set[object] = set()

    def marked(completions: list[str], answer: list[object]) -> list[float]:
        seen.update(answer)
        return [float(len(text)) for text in completions]

    config = PPOConfig(
        output_dir=tmp_path / "run", iteration_batch_size=16, minibatch_size=8, max_completion_length=6,
        num_eval_samples=4, normalization_samples=16, max_iterations=1, quiet=True,
    )  # fmt: skip
    rows = [{"prompt": "", "answer": "yes"}]
    PPOTrainer(build_model(), marked, config, rows, [{"prompt": ""}], processing_class=tokenizer).train()
    assert seen == {"yes", None}


def test_the_reward_model_s_constants_are_found_for_conversations() -> None:
    known = {
        "sources": ["m"], "prompts": ['[{"role": "user", "content": "hi"}]'], "max_completion_tokens": 8,
        "offset": 1.0, "scale": 2.0, "n": 3,
    }  # fmt: skip
    found = from_reward_file({"normalization": known}, model="m", prompts=[HI], max_completion_length=8)
    assert found is not None
    assert found[:3] == (1.0, 2.0, 3)
