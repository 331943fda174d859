"""Conversational prompts: through the chat template to the model, as TRL gives them to rewards, as JSON in files."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from trl.data_utils import is_conversational

from labeling.chat import chat_turns
from rlhf import PPOConfig, PPOTrainer
from rlhf.cli import main
from rlhf.foundation.conversation import is_messages, prompt_from_text, prompt_to_text
from rlhf.foundation.encoding import encode_prompt
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import write_jsonl
from rlhf.foundation.model_directory import save_model
from rlhf.foundation.records import read_samples
from rlhf.runs.ladder import read_rungs

CHARACTERS = "abcdefghijklmnopqrstuvwxyz .,\n!|"
TEMPLATE = (
    "{% for m in messages %}|{{ m['role'] }}|{{ m['content'] }}{% if not loop.last or add_generation_prompt %}"
    "{{ '\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}|assistant|{% endif %}"
)
MORNING = [{"role": "user", "content": "good morning"}]
LONGER = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "hm."},
    {"role": "user", "content": "oh!"},
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    vocabulary = {"<end>": 0, **{c: i for i, c in enumerate(CHARACTERS, start=1)}}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<end>"))
    core.pre_tokenizer, core.decoder = pre_tokenizers.Split("", "isolated"), decoders.Fuse()
    own = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<end>", eos_token="<end>", pad_token="<end>")
    own.chat_template = TEMPLATE
    return own


@pytest.fixture
def model() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(CHARACTERS) + 1, n_positions=80, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0,
        initializer_range=0.2,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


def configure(directory: Path, **options: Any) -> PPOConfig:
    small: dict[str, Any] = {
        "iteration_batch_size": 32, "minibatch_size": 16, "max_completion_length": 8, "num_eval_samples": 8,
        "normalization_samples": 64, "max_iterations": 2, "quiet": True,
    }  # fmt: skip
    return PPOConfig(output_dir=str(directory), **(small | options))


def test_ids_are_those_of_the_template(tokenizer: Any) -> None:
    rendered = "|user|hi\n|assistant|hm.\n|user|oh!\n|assistant|"
    assert encode_prompt(tokenizer, LONGER) == tokenizer(rendered)["input_ids"]
    # An assistant's last message is continued: no new turn is opened.
    assert encode_prompt(tokenizer, LONGER[:2]) == tokenizer("|user|hi\n|assistant|hm.")["input_ids"]


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "expected a list of"),
        ([{"role": "user"}], "message 1: got no content"),
        ([{"role": "user", "content": None}], "message 1: got no content"),
        ([{"role": "user", "content": 3}], "got a int as content"),
        ([{"role": "user", "content": [{"type": "image"}]}], "part of type 'image'"),
        (["hi"], 'message 1: got .hi.; expected {"role", "content"}'),
        ([{"role": "system", "content": "be kind"}], "ends with the role 'system'"),
    ],
)
def test_bad_conversations_are_one_line(tokenizer: Any, messages: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        encode_prompt(tokenizer, messages)


def test_a_template_that_refuses_is_one_line(tokenizer: Any) -> None:
    strict = copy.deepcopy(tokenizer)
    strict.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(InputError, match="roles must alternate"):
        encode_prompt(strict, MORNING)
    strict.chat_template = None
    with pytest.raises(InputError, match="no chat template"):
        encode_prompt(strict, MORNING)


TEXTS = st.text(max_size=8)
MESSAGES = st.lists(st.fixed_dictionaries({"role": TEXTS, "content": TEXTS}), min_size=1, max_size=3)


@given(st.one_of(TEXTS, MESSAGES, st.sampled_from(["[", "[]", "[1]", '["a"]', '[{"role": 1}]', "[" * 9999])))
def test_files_hold_every_prompt(prompt: Any) -> None:
    assert prompt_from_text(prompt_to_text(prompt)) == prompt
    if not isinstance(prompt, str):
        assert is_messages(prompt)
        assert is_conversational({"prompt": prompt})
        shown = [turn for turn in prompt if turn["content"].strip()]
        assert chat_turns(prompt_to_text(prompt), "messages") == shown or not shown


def test_rewards_get_what_trl_gives_them(model: GPT2LMHeadModel, tokenizer: Any, tmp_path: Path) -> None:
    seen: list[tuple[Any, Any, Any]] = []

    def exclaims(prompts: Any, completions: Any, completion_ids: Any, mood: Any, **_: Any) -> list[float]:
        seen.extend(zip(prompts, completions, mood, strict=True))
        return [float(c[0]["content"].count("!") + c[0]["content"].count("a")) for c in completions]

    rows = [{"prompt": MORNING, "mood": 1}, {"prompt": LONGER, "mood": 2}]
    trainer = PPOTrainer(model, exclaims, configure(tmp_path / "run"), rows, processing_class=tokenizer)
    run = trainer.train()
    assert {json.dumps(prompt) for prompt, _, _ in seen} == {json.dumps(MORNING), json.dumps(LONGER)}
    assert all(
        completion == [{"role": "assistant", "content": completion[0]["content"]}]
        and isinstance(completion[0]["content"], str)
        and is_conversational({"prompt": prompt})
        and mood == (1 if prompt == MORNING else 2)
        for prompt, completion, mood in seen
    )
    for rung in read_rungs(run.directory / "ladder.json"):
        samples = read_samples(run.directory / rung.samples)
        assert [prompt_from_text(s.prompt) for s in samples[:2]] == [MORNING, LONGER]
        assert all(s.reward == s.completion.count("!") + s.completion.count("a") for s in samples)
    lines = [json.loads(line) for line in (run.directory / "metrics.jsonl").read_text().splitlines()]
    assert all(line["ratio_first_update_max_dev"] < 1e-4 for line in lines[:-1])  # the left padding is right


def test_a_conversation_is_its_text_to_the_model(model: GPT2LMHeadModel, tokenizer: Any, tmp_path: Path) -> None:
    """The same completions and parameters as with the rendered text as a plain prompt."""

    def dots(prompts: Any, completions: Any, **_: Any) -> list[float]:
        texts = [c if isinstance(c, str) else c[0]["content"] for c in completions]
        return [float(t.count(".") + t.count("e")) for t in texts]

    ends = []
    for name, prompt in (("chat", MORNING), ("text", "|user|good morning\n|assistant|")):
        config = configure(tmp_path / name)
        own = copy.deepcopy(model)
        PPOTrainer(own, dots, config, [{"prompt": prompt}], processing_class=tokenizer).train()
        ends.append(own)
    assert all(torch.equal(a, b) for a, b in zip(ends[0].parameters(), ends[1].parameters(), strict=True))


def test_eval_dataset_gives_the_rungs_their_prompts(model: GPT2LMHeadModel, tokenizer: Any, tmp_path: Path) -> None:
    def dots(completions: Any, **_: Any) -> list[float]:
        return [float(str(c).count(".") + str(c).count("e")) for c in completions]

    run = PPOTrainer(
        model, dots, configure(tmp_path / "run"), [{"prompt": "oh"}], [{"prompt": "ah"}, {"prompt": MORNING}], tokenizer
    ).train()
    samples = read_samples(run.directory / "samples" / "kl-00.00.jsonl")
    assert [s.prompt for s in samples[:4]] == ["ah", prompt_to_text(MORNING)] * 2


@pytest.mark.slow
def test_the_command_line_from_chat_file_to_evaluation(
    model: GPT2LMHeadModel, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_model(model, tokenizer, tmp_path / "model")
    write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": MORNING}, {"prompt": LONGER}])
    write_jsonl(tmp_path / "held.jsonl", [{"prompt": LONGER}])
    (tmp_path / "mine.py").write_text(
        "def vowels(prompts, completions, **kwargs):\n"
        "    return [float(sum(c[0]['content'].count(v) for v in 'aeiou')) for c in completions]\n"
    )
    words = (
        "ppo --model_name_or_path model --reward_func mine.py:vowels --prompts prompts.jsonl --eval_prompts held.jsonl "
        "--output_dir run --max_completion_length 8 --iteration_batch_size 32 --minibatch_size 16 "
        "--num_eval_samples 16 --normalization_samples 64 --max_iterations 2 --quiet"
    )
    assert main(words.split()) == 0
    assert {s.prompt for s in read_samples(tmp_path / "run/samples/kl-00.00.jsonl")} == {prompt_to_text(LONGER)}
    assert main(["evaluate", "run", "--num_samples", "32", "--quiet"]) == 0
    fresh = read_samples(next((tmp_path / "run" / "evaluation").glob("*.jsonl")))
    assert {s.prompt for s in fresh} == {prompt_to_text(LONGER)}
    words = "sample --model_name_or_path model --prompts prompts.jsonl --max_new_tokens 8 --output_path s.jsonl --quiet"
    assert main(words.split()) == 0
    assert [prompt_from_text(s.prompt) for s in read_samples(tmp_path / "s.jsonl")] == [MORNING, LONGER]
