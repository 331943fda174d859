"""Rewards of conversations: one encoding from the file to PPO, plain and whole, and what does not fit is told early."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, DatasetDict

from rewards.calling import call_reward
from rewards.encoding_check import check_pairs, check_texts, require_same_kind
from rewards.loading import load_reward_model
from rewards.preference_model import PreferenceRewardModel, encoder_for
from rewards.preference_training import SoftPreferenceCollator, as_dataset
from rewards.preferences import Preference, answers_of, read_preferences
from rewards.steps.fit import fit
from rewards.steps.reward_config import RewardConfig
from rlhf import PPOConfig, PPOTrainer
from rlhf.commands.reward import summary
from rlhf.foundation.conversation import prompt_to_text
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import write_jsonl
from rlhf.foundation.model_directory import load_causal_lm, load_tokenizer, save_model
from rlhf.foundation.records import Comparison, Label, Sample, write_records

from .conftest import toy_labels, toy_model, toy_text, toy_tokenizer

TEMPLATE = (
    "{% for m in messages %}<{{ 'king' if m['role'] == 'user' else 'queen' }}>{{ m['content'] }}"
    "{% if not loop.last or add_generation_prompt %}|{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<queen>{% endif %}"
)
ASKED = [{"role": "user", "content": "the king"}]
PROMPT = prompt_to_text(ASKED)


@pytest.fixture
def chat_model(tmp_path: Path) -> str:
    """A toy language model with a chat template, of 64 tokens of context."""
    tokenizer = toy_tokenizer()
    tokenizer.chat_template = TEMPLATE
    save_model(toy_model(), tokenizer, tmp_path / "base")
    return str(tmp_path / "base")


def chat_comparisons(n: int) -> list[Comparison]:
    """Pairs of which the one with joy in it is preferred, as they come back from labelling."""
    rng = random.Random(7)
    texts = [" ".join(w for w in toy_text(rng).split() if w not in ("joy", "woe")) for _ in range(n)]
    return [Comparison(f"u{i}", PROMPT, f"joy {text} joy", f"woe {text} woe", "ana") for i, text in enumerate(texts)]


def options(tmp_path: Path, model: str, **given: Any) -> RewardConfig:
    settings: dict[str, Any] = {"learning_rate": 5e-3, "num_train_epochs": 4.0, "allow_weak": True, "quiet": True}
    return RewardConfig(model_name_or_path=model, output_dir=str(tmp_path / "rm"), **(settings | given))


def small_run(directory: Path, **given: Any) -> PPOConfig:
    settings: dict[str, Any] = {
        "iteration_batch_size": 16, "minibatch_size": 8, "max_completion_length": 6, "num_eval_samples": 4,
        "normalization_samples": 16, "max_iterations": 2, "quiet": True,
    }  # fmt: skip
    return PPOConfig(output_dir=str(directory), **(settings | given))


def test_a_chat_pair_scores_in_ppo_as_in_training(chat_model: str, tmp_path: Path) -> None:
    rows = chat_comparisons(30)
    write_records(tmp_path / "comparisons.jsonl", rows)
    result = fit.run(options(tmp_path, chat_model, comparisons=str(tmp_path / "comparisons.jsonl")))
    assert result.report["encoding"]["texts"] == ["conversation"]
    reward = load_reward_model(result.directory, device="cpu")
    assert isinstance(reward, PreferenceRewardModel)

    pairs = read_preferences(tmp_path / "comparisons.jsonl")
    data = as_dataset(reward, pairs)
    template = "<king>the king|<queen>" + str(pairs[0].first)
    assert data[0]["chosen_ids"] == load_tokenizer(chat_model)(template)["input_ids"]
    batch = SoftPreferenceCollator(pad_token_id=reward.pad_id)([data[i] for i in range(len(pairs))])
    with torch.no_grad():
        trained = reward.last_scores(batch["input_ids"], batch["attention_mask"])
    in_ppo = call_reward(reward, [ASKED] * 60, [*(str(p.first) for p in pairs), *(str(p.second) for p in pairs)])
    assert in_ppo == pytest.approx(trained.tolist(), abs=1e-5)
    # Read as plain text, as it was, the record's JSON would be scored.
    assert reward.encode([ASKED], ["joy"]) != [load_tokenizer(chat_model)(PROMPT + "joy")["input_ids"]]

    model, tokenizer = load_causal_lm(chat_model), load_tokenizer(chat_model)
    with pytest.raises(InputError, match="got plain text to score; expected conversations, as it was fitted on"):
        PPOTrainer(model, result.directory, small_run(tmp_path / "no"), processing_class=tokenizer).train()
    trainer = PPOTrainer(
        model, result.directory, small_run(tmp_path / "ppo"), [{"prompt": ASKED}], processing_class=tokenizer
    )
    rollout = trainer.rollout()
    assert rollout.rewards.tolist() == pytest.approx(reward([ASKED] * 16, rollout.completions), abs=1e-5)
    trainer.close()


def test_chat_judgements_end_in_ppo(chat_model: str, tmp_path: Path) -> None:
    labels = [Label(f"u{i}", PROMPT, x.completion, x.label, "ana") for i, x in enumerate(toy_labels(80))]
    write_records(tmp_path / "labels.jsonl", labels)
    result = fit.run(options(tmp_path, chat_model, labels=str(tmp_path / "labels.jsonl"), dense_weight=1.0))
    assert result.report["encoding"]["texts"] == ["conversation"]
    trainer = PPOTrainer(
        load_causal_lm(chat_model),
        str(result.directory),
        small_run(tmp_path / "ppo"),
        [{"prompt": ASKED}],
        processing_class=load_tokenizer(chat_model),
    )
    trainer.train()
    assert trainer.iteration == 2
    reward = load_reward_model(result.directory, device="cpu")
    with pytest.raises(InputError, match="got plain text to score; expected conversations"):
        call_reward(reward, [""], ["joy"])


def test_samples_of_another_kind_are_refused_before_fitting(chat_model: str, tmp_path: Path) -> None:
    write_records(tmp_path / "comparisons.jsonl", chat_comparisons(30))
    write_records(tmp_path / "samples.jsonl", [Sample(str(i), "the ", "joy", "base") for i in range(4)])
    files = {"comparisons": str(tmp_path / "comparisons.jsonl"), "samples": str(tmp_path / "samples.jsonl")}
    with pytest.raises(InputError, match="got plain text to score; expected conversations"):
        fit.run(options(tmp_path, chat_model, **files, num_train_epochs=10_000.0))
    encoder = encoder_for(chat_model, load_tokenizer(chat_model))
    check_texts(encoder, [ASKED], ["joy"])
    require_same_kind(encoder, [Sample("s", PROMPT, "woe", "base")])


LAYOUTS = ("records", "explicit", "whole", "beside", "system")


def in_layout(layout: str, chosen: str, rejected: str) -> dict[str, Any]:
    good, bad = ([{"role": "assistant", "content": text}] for text in (chosen, rejected))
    return {
        "records": {"prompt": PROMPT, "chosen": chosen, "rejected": rejected, "annotator": "ana", "uid": chosen},
        "explicit": {"prompt": ASKED, "chosen": good, "rejected": bad},
        "whole": {"chosen": ASKED + good, "rejected": ASKED + bad},
        "beside": {"prompt": "the king", "chosen": ASKED + good, "rejected": ASKED + bad},
        "system": {"system": "", "question": "the king", "chosen": chosen, "rejected": rejected},
    }[layout]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_has_the_same_ids(chat_model: str, layout: str) -> None:
    (pair,) = answers_of([("f", in_layout(layout, "joy", "woe"))])
    reward = PreferenceRewardModel(load_causal_lm(chat_model), load_tokenizer(chat_model))
    assert reward.encode([pair.prompt] * 2, [pair.first, pair.second]) == reward.encode(
        [ASKED] * 2, [str(pair.first), str(pair.second)]
    )
    tokens = reward.tokenizer.convert_ids_to_tokens(reward.encode([pair.prompt], [pair.first])[0])
    assert tokens.count("king") == 2  # the user's mark, and what he says, once


def test_a_data_set_on_disk(chat_model: str, tmp_path: Path) -> None:
    rows = [in_layout("whole", row.chosen, row.rejected) for row in chat_comparisons(24)]
    DatasetDict({"train": Dataset.from_list(rows[:2]), "preferences": Dataset.from_list(rows)}).save_to_disk(
        tmp_path / "data"
    )
    with pytest.raises(InputError, match="got the split 'nowhere'; expected one of train, preferences"):
        fit.run(options(tmp_path, chat_model, dataset_name=str(tmp_path / "data"), dataset_split="nowhere"))
    named = options(tmp_path, chat_model, dataset_name=str(tmp_path / "data"), dataset_split="preferences")
    result = fit.run(named)
    assert result.report["kind"] == "preference"
    assert result.report["comparisons"]["pairs"] == 24
    assert result.report["comparisons"]["file"] == str(tmp_path / "data")


def test_a_data_set_of_judgements_with_other_columns(chat_model: str, tmp_path: Path) -> None:
    """TRL's unpaired layout, as a file of a directory and as JSON; the label is true or false."""
    judged = [x for x in toy_labels(60) if x.label != "neutral"]
    rows = [{"ask": ASKED, "text": x.completion, "ok": x.label == "positive"} for x in judged]
    (tmp_path / "data").mkdir()
    write_jsonl(tmp_path / "data" / "train.jsonl", rows)
    columns = {"prompt_column": "ask", "completion_column": "text", "label_column": "ok"}
    for name in (tmp_path / "data", tmp_path / "data" / "train.jsonl"):
        result = fit.run(options(tmp_path, chat_model, dataset_name=str(name), overwrite=True, **columns))
        assert result.report["kind"] == "token"
        assert result.report["labels"]["rows"] == len(judged)
        assert result.report["encoding"]["texts"] == ["conversation"]
    with pytest.raises(InputError, match="--label_column: got good; expected one of the columns ask, ok, text"):
        fit.run(options(tmp_path, chat_model, dataset_name=str(tmp_path / "data"), label_column="good"))
    with pytest.raises(InputError, match="got the columns ask, ok, text; expected chosen and rejected, or completion"):
        fit.run(options(tmp_path, chat_model, dataset_name=str(tmp_path / "data")))
    with pytest.raises(InputError, match=r"\(.*Error: .*; check the name, the split 'train' and the network"):
        fit.run(options(tmp_path, chat_model, dataset_name=str(tmp_path / "nowhere")))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "got none; expected one of them"),
        ({"labels": "a", "dataset_name": "b"}, "got --labels and --dataset_name; expected one of them"),
        ({"labels": "a", "label_column": "b"}, "--labels: got --label_column beside it; .* --dataset_name a"),
        ({"labels": "a", "texts": "whole"}, "--labels: got --texts beside it"),
        ({"comparisons": "a", "target": "negative"}, "comparisons: got --target, .* beside them"),
        ({"comparisons": "a", "texts": "both"}, "--texts: got 'both'"),
    ],
)
def test_sources_that_do_not_go_together(tmp_path: Path, given: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        options(tmp_path, "base", **given)


def test_pairs_that_differ_beyond_the_context_alone(chat_model: str, tmp_path: Path) -> None:
    """64 tokens of context, of which the end is kept: 70 words and spaces hide what stands before them."""
    tail = " the king" * 35
    rows = [Comparison(f"u{i}", "", f"joy {i}{tail}", f"woe {i}{tail}", "ana") for i in range(60)]
    write_records(tmp_path / "comparisons.jsonl", rows)
    with pytest.raises(
        InputError, match=r"got 0 pairs .* differ: 60 have the same tokens, cut to 64 tokens of context"
    ):
        fit.run(options(tmp_path, chat_model, comparisons=str(tmp_path / "comparisons.jsonl")))

    rows += [Comparison(f"v{i}", "", f"joy {word}", f"woe {word}", "ana") for i, word in enumerate(sorted(words(24)))]
    rows += [Comparison("w", "", "joy", "", "ana"), Comparison("x", "", "queen go", "queen go", "ana")]
    write_records(tmp_path / "comparisons.jsonl", rows)
    result = fit.run(options(tmp_path, chat_model, comparisons=str(tmp_path / "comparisons.jsonl")))
    # 60 + 24 + 1 pairs of different texts; of the first 60 both texts were cut.
    assert result.report["comparisons"]["encoding"] == {
        "max_tokens": 64, "texts": 170, "cut": 120, "empty": 1, "pairs_encoded_equal": 60,
    }  # fmt: skip
    assert result.report["held_out"]["texts"] <= 25
    told = summary(result)
    assert "texts cut to 64 tokens of context: 120 of 170; their end is kept" in told
    assert "pairs that the model cannot tell apart (the same tokens): 60, left out" in told
    assert "texts with an empty completion: 1 of 170" in told
    assert "pairs of two texts that look the same: 1; left out" in told


def words(n: int) -> set[str]:
    rng = random.Random(3)
    found: set[str] = set()
    while len(found) < n:
        found.add(toy_text(rng))
    return found


def test_cut_texts_of_labels_are_told(chat_model: str, tmp_path: Path) -> None:
    tail = " the king" * 35
    long = [Label(f"l{i}", "", f"{word}{tail}", "neutral", "ana") for i, word in enumerate(("joy", "woe"))]
    write_records(tmp_path / "labels.jsonl", [*toy_labels(60), *long])
    result = fit.run(options(tmp_path, chat_model, labels=str(tmp_path / "labels.jsonl")))
    encoding = result.report["labels"]["encoding"]
    assert (encoding["cut"], encoding["texts_encoded_equal"]) == (2, 1)
    assert "texts cut to 64 tokens of context: 2 of" in summary(result)
    assert "texts that the model cannot tell apart (the same tokens): 1" in summary(result)


def test_nothing_is_cut_where_everything_fits(chat_model: str) -> None:
    encoder = encoder_for(chat_model, load_tokenizer(chat_model))
    pairs = [Preference(ASKED, f"joy {word}", f"woe {word}", 1.0, 1) for word in sorted(words(20))]
    kept, check = check_pairs(encoder, pairs, "f")
    assert kept == pairs
    assert check.lines() == []
