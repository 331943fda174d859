"""Classifiers of the field as rewards: every score is that of transformers' own forward of the text by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

import rewards
from rewards.classifier import ClassifierReward
from rewards.loading import as_reward_functions, load_reward
from rlhf.foundation.errors import InputError
from tests.rewards.classifier_kinds import CHAT, ENCODERS, KINDS, PADS, config_for, make, save, tokenizer_for

PROMPTS = ["It was the best", "", "Good morning.", "What", "the joy of", "No"]
COMPLETIONS = [" of times, it was the worst of times.", "A happy day!", "", " sorrow is this? None.", " joys", "!"]
CASES = [
    (kind, labels, pad, side)
    for kind in KINDS
    for labels in (1, 3)
    for pad in PADS
    for side in ("left", "right")
    if pad == "own" or kind not in ENCODERS  # encoders bring a pad token
]


@torch.no_grad()
def alone(model: Any, tokenizer: Any, text: str) -> torch.Tensor:
    """transformers' own forward of one text: (L,)."""
    logits: torch.Tensor = model(**tokenizer(text, return_tensors="pt")).logits[0]
    return logits


def wanted(model: Any, tokenizer: Any) -> list[float]:
    """The scores by hand; an empty text cannot be given to transformers, and is not among them."""
    rows = [alone(model, tokenizer, p + c) for p, c in zip(PROMPTS, COMPLETIONS, strict=True)]
    if model.config.num_labels == 1:
        return [float(row[0]) for row in rows]
    return [float(row.log_softmax(-1)[2]) for row in rows]


@pytest.mark.parametrize(("kind", "labels", "pad", "side"), CASES)
def test_scores_are_those_of_each_text_alone(kind: str, labels: int, pad: str, side: str, tmp_path: Path) -> None:
    model, tokenizer = make(kind, labels, pad=pad, padding_side=side)
    expected = wanted(model, tokenizer)
    label = "POSITIVE" if labels > 1 else None
    model.save_pretrained(tmp_path / "clf")
    tokenizer.save_pretrained(tmp_path / "clf")
    by_object = load_reward(model, label=label, processing_class=tokenizer)
    by_directory = load_reward(tmp_path / "clf", label=label, device="cpu")
    assert len({round(value, 3) for value in expected}) > 3  # the texts do differ
    for reward in (by_object, by_directory):
        assert isinstance(reward, ClassifierReward)
        assert reward(PROMPTS, COMPLETIONS) == pytest.approx(expected, abs=1e-5)
        assert reward._in_batches


def test_a_batch_without_a_pad_token_may_have_more_texts_than_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewards.classifier.vocabulary_rows", lambda model: 0)  # as if each ended a text
    model, tokenizer = make("gpt2", 1, pad="none")
    reward = ClassifierReward(model, tokenizer)
    texts = [chr(33 + i % 90) + chr(33 + i // 90) * (i % 3) for i in range(400)]
    expected = [float(alone(model, tokenizer, text)[0]) for text in texts]
    assert reward([""] * 400, texts) == pytest.approx(expected, abs=1e-5)
    assert model.config.pad_token_id is None  # the user's own object stays as it was


def test_an_empty_text_and_an_over_long_one_are_scored(capsys: pytest.CaptureFixture[str]) -> None:
    for kind in KINDS:
        model, tokenizer = make(kind, 1)
        reward = ClassifierReward(model, tokenizer)
        long, limit = "What joy. " * 40 + "The end", reward.texts.max_length
        assert len(reward.texts.encode([""], [long])[0]) == limit
        ids = reward.texts.encode([""], [long])[0]
        special = [i for i in tokenizer(" end")["input_ids"] if i in tokenizer.all_special_ids]
        assert [i for i in ids if i in tokenizer.all_special_ids] == special  # front and back stay
        assert tokenizer.decode([i for i in ids if i not in special]).endswith("What joy. The end")
        found = reward(["", ""], ["", long])
        assert all(abs(value) < 1e6 for value in found)
        told = capsys.readouterr().err
        assert told.count(f"longer than its {limit} tokens are cut, their end is kept") == 1


def test_labels_are_named_as_log_probability_or_logit(tmp_path: Path) -> None:
    model, tokenizer = make("bert", 3)
    rows = torch.stack([alone(model, tokenizer, p + c) for p, c in zip(PROMPTS, COMPLETIONS, strict=True)])
    for label in ("NEUTRAL", "neutral", 1, "1"):
        found = ClassifierReward(model, tokenizer, label=label)
        assert found.scores(PROMPTS, COMPLETIONS).tolist() == pytest.approx(
            rows.log_softmax(-1)[:, 1].tolist(), abs=1e-5
        )
    logit = ClassifierReward(model, tokenizer, label="NEUTRAL", score="logit")
    assert logit(PROMPTS, COMPLETIONS) == pytest.approx(rows[:, 1].tolist(), abs=1e-5)
    model.config.problem_type = "multi_label_classification"
    several = ClassifierReward(model, tokenizer, label="NEUTRAL")
    assert several(PROMPTS, COMPLETIONS) == pytest.approx(rows[:, 1].sigmoid().log().tolist(), abs=1e-5)


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (
            lambda: load_reward(make("bert", 3)[0], processing_class=make("bert", 3)[1]),
            r"got 3 labels \(NEGATIVE, NEUT",
        ),
        (lambda: ClassifierReward(*make("bert", 3), label="GREAT"), "got the label GREAT; expected one of NEGATIVE"),
        (lambda: ClassifierReward(*make("bert", 1), label="POSITIVE"), "got the label POSITIVE for one output"),
        (lambda: load_reward(make("bert", 1)[0]), "that was not loaded from anywhere; expected its tokenizer"),
        (lambda: as_reward_functions([make("bert", 1)[0]], [None, None]), "reward_processing_classes: got 2 of them"),
        (lambda: ClassifierReward(*make("bert", 1), reads="half"), "classifier: reads: got 'half'"),
        (lambda: ClassifierReward(*make("bert", 1), append_eos=True), "append_eos: got a tokenizer without EOS"),
        (lambda: load_reward("full_stop", label="POSITIVE"), "got the label POSITIVE; expected none"),
        (lambda: load_reward("some/where"), "no such local directory and nothing from the hub"),
    ],
)
def test_what_is_no_usable_classifier_is_one_line(make_it: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        make_it()
    assert "\n" not in str(caught.value)


def test_a_language_model_and_a_torn_classifier_are_named(tmp_path: Path) -> None:
    tokenizer = tokenizer_for("gpt2")
    lm = AutoModelForCausalLM.from_config(config_for("gpt2", len(tokenizer), 1, None))
    lm.save_pretrained(tmp_path / "lm")
    tokenizer.save_pretrained(tmp_path / "lm")
    with pytest.raises(InputError, match=r"got GPT2LMHeadModel, without weights for score\.weight; .* two words"):
        load_reward(tmp_path / "lm")
    with pytest.raises(InputError, match="got a GPT2LMHeadModel, which is no classifier"):
        load_reward(lm, processing_class=tokenizer)
    save(tmp_path / "torn", "bert", 1)
    (tmp_path / "torn" / "model.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match="unusable files"):
        load_reward(tmp_path / "torn")


def test_conversations_go_through_the_classifiers_own_template() -> None:
    model, tokenizer = make("llama", 1)
    asked = [[{"role": "user", "content": "Good morning."}]] * 2
    answers = ["A happy day!", "None, none at all"]
    with pytest.raises(InputError, match=r"tokenizer without a chat template; .* `reads: completion`"):
        ClassifierReward(model, tokenizer)(asked, answers)
    alone_scores = ClassifierReward(model, tokenizer, reads="completion")(asked, answers)
    assert alone_scores == pytest.approx([float(alone(model, tokenizer, text)[0]) for text in answers], abs=1e-5)
    tokenizer.chat_template = CHAT
    for text, score in zip(answers, ClassifierReward(model, tokenizer)(asked, answers), strict=True):
        spelled = f"<|user|>Good morning.\n<|assistant|>{text}\n"
        inputs = tokenizer(spelled, return_tensors="pt", add_special_tokens=False)
        assert score == pytest.approx(float(model(**inputs).logits[0, 0]), abs=1e-5)


def test_every_name_of_a_classifier_leads_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "sst", "deberta", 3)
    expected = load_reward(tmp_path / "sst", label="POSITIVE")(PROMPTS, COMPLETIONS)
    assert load_reward(f"{tmp_path}/sst:POSITIVE")(PROMPTS, COMPLETIONS) == expected
    (tmp_path / "positive.yaml").write_text("classifier: sst\nlabel: POSITIVE\nscore: log_prob\nreads: whole\n")
    by_file = load_reward(tmp_path / "positive.yaml")
    assert by_file(PROMPTS, COMPLETIONS) == expected
    assert by_file.__name__ == "positive"
    (tmp_path / "both.yaml").write_text("weights: {'sst:POSITIVE': 2.0, full_stop: 1.0}\n")
    both = load_reward(tmp_path / "both.yaml")(PROMPTS, COMPLETIONS)
    stops = [float(text.count(".")) for text in COMPLETIONS]
    assert both == pytest.approx([2 * one + stop for one, stop in zip(expected, stops, strict=True)])
    for line, message in (
        ("label: 3.5", "label: 3.5"),
        ("labels: x", "the key labels"),
        ("max_length: true", "max_len"),
    ):
        (tmp_path / "bad.yaml").write_text(f"classifier: sst\n{line}\n")
        with pytest.raises(InputError, match=message):
            load_reward(tmp_path / "bad.yaml")


def test_a_name_of_the_hub_is_read_from_the_local_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    entry = tmp_path / "hub" / "models--some-lab--sst"
    save(entry / "snapshots" / commit, "roberta", 3)
    (entry / "refs").mkdir()
    (entry / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("transformers.utils.hub.TRANSFORMERS_CACHE", str(tmp_path / "hub"), raising=False)
    expected = load_reward(entry / "snapshots" / commit, label="POSITIVE")(PROMPTS, COMPLETIONS)
    assert load_reward("some-lab/sst:POSITIVE")(PROMPTS, COMPLETIONS) == expected


def test_an_adapter_of_a_classifier_is_merged(tmp_path: Path) -> None:
    save(tmp_path / "base", "llama", 3)
    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base")
    adapted: Any = get_peft_model(base, LoraConfig(task_type="SEQ_CLS", r=2, init_lora_weights=False))
    adapted.eval().save_pretrained(tmp_path / "adapter")
    _, tokenizer = make("llama", 3)
    expected = [
        float(alone(adapted, tokenizer, p + c).log_softmax(-1)[2]) for p, c in zip(PROMPTS, COMPLETIONS, strict=True)
    ]
    found = load_reward(tmp_path / "adapter", label="POSITIVE")
    assert found(PROMPTS, COMPLETIONS) == pytest.approx(expected, abs=1e-4)


def test_attention_that_this_machine_has_not_gives_way_to_the_plain_one(tmp_path: Path) -> None:
    save(tmp_path / "flash", "llama", 1)
    expected = load_reward(tmp_path / "flash")(PROMPTS, COMPLETIONS)
    config = json.loads((tmp_path / "flash" / "config.json").read_text())
    for key in ("attn_implementation", "_attn_implementation"):
        (tmp_path / "flash" / "config.json").write_text(json.dumps(config | {key: "flash_attention_2"}))
        assert load_reward(tmp_path / "flash")(PROMPTS, COMPLETIONS) == pytest.approx(expected, abs=1e-5)


def test_rewards_load_is_the_same_door() -> None:
    assert rewards.load is load_reward
