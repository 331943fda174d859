"""The comparison reward model: one encoding, a planted rule recovered, the noise in its loss by hand."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest
import torch

from rewards.preference_model import PreferenceRewardModel, load_classifier
from rewards.preference_pooling import pool_comparisons
from rewards.preference_training import (
    PreferenceSettings,
    SoftPreferenceCollator,
    as_dataset,
    fit_preferences,
    preference_loss,
)
from rewards.preferences import Preference, answer
from rlhf.foundation.errors import InputError
from rlhf.foundation.model_directory import load_tokenizer, save_model

from .conftest import END, toy_model, toy_text, toy_tokenizer
from .test_preferences import comparison

TEMPLATE = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }}" + END + "{% endfor %}"


def untrained(directory: Path) -> PreferenceRewardModel:
    torch.manual_seed(0)
    return PreferenceRewardModel(load_classifier(str(directory), new_head=True), load_tokenizer(str(directory)))


def planted(n: int, seed: int) -> list[Preference]:
    """Pairs of which exactly one text holds the hidden word `joy`: that one is preferred."""
    rng = random.Random(seed)
    rows = []
    for _ in range(n):
        plain = " ".join(w for w in toy_text(rng).split() if w != "joy")
        words = " ".join(w for w in toy_text(rng).split() if w != "joy").split()
        words.insert(rng.randint(0, len(words)), "joy")
        rows.append(comparison(" ".join(words), plain))
    return pool_comparisons(rows).pairs


def test_loss_by_hand() -> None:
    difference = torch.tensor([math.log(3.0), 0.0])  # σ = 3/4, 1/2
    targets, weights = torch.tensor([1.0, 0.5]), torch.tensor([1.0, 3.0])
    expected = (math.log(4 / 3) + 3 * math.log(2)) / 4
    assert preference_loss(difference, targets, weights, 0.0).item() == pytest.approx(expected, rel=1e-6)
    # e = 0.1: P = 0.9 · 0.75 + 0.05 = 0.725 and 0.5.
    expected = (-math.log(0.725) + 3 * math.log(2)) / 4
    assert preference_loss(difference, targets, weights, 0.1).item() == pytest.approx(expected, rel=1e-6)


def test_noise_bounds_what_one_wrong_answer_costs() -> None:
    far, wrong, one = torch.tensor([-40.0]), torch.tensor([1.0]), torch.ones(1)
    assert preference_loss(far, wrong, one, 0.0).item() == pytest.approx(40)
    assert preference_loss(far, wrong, one, 0.1).item() == pytest.approx(-math.log(0.05), rel=1e-4)


def test_scoring_reads_the_ids_that_were_trained_token_by_token(base_directory: Path) -> None:
    reward = untrained(base_directory)
    pairs = pool_comparisons([comparison("joy and king", "woe"), comparison(f"the joy{END} woe", "")]).pairs
    data = as_dataset(reward, pairs)
    for row, pair in zip(data, pairs, strict=True):
        assert reward.encode([pair.prompt] * 2, [pair.first, pair.second]) == [row["chosen_ids"], row["rejected_ids"]]
        assert 0 not in row["chosen_ids"][1:] + row["rejected_ids"][1:]  # no EOS, in neither
    batch = SoftPreferenceCollator(pad_token_id=reward.pad_id)([data[0], data[1]])
    trained = reward.last_scores(batch["input_ids"], batch["attention_mask"])
    texts = [pairs[0].first, pairs[1].first, pairs[0].second, pairs[1].second]
    assert reward(["p: "] * 4, texts) == pytest.approx(trained.tolist(), abs=1e-5)


def test_margins_point_to_the_preferred_text(base_directory: Path) -> None:
    reward = untrained(base_directory)
    joy, woe, tie = (
        answer("", *texts, tie=tie, margin=0.5)
        for *texts, tie in (("joy", "woe", False), ("woe", "joy", False), ("joy", "woe", True))
    )
    towards_joy = 1 if joy.first == "joy" else -1
    assert as_dataset(reward, [joy, woe, tie])["margins"][:] == [0.5 * towards_joy, -0.5 * towards_joy, 0.0]


def test_scores_do_not_depend_on_company(base_directory: Path) -> None:
    reward = untrained(base_directory)
    rng = random.Random(1)
    texts = [toy_text(rng) for _ in range(20)] + [""]
    together = reward([""] * 21, texts)
    assert together == pytest.approx([reward([""], [text])[0] for text in texts], abs=1e-5)


def test_a_hidden_word_is_recovered_and_survives_the_disk(base_directory: Path, tmp_path: Path) -> None:
    reward = untrained(base_directory)
    fit_preferences(reward, planted(300, seed=0), PreferenceSettings(num_train_epochs=6, learning_rate=3e-3), seed=0)
    fresh = planted(200, seed=1)
    first = reward([p.prompt for p in fresh], [p.first for p in fresh])
    second = reward([p.prompt for p in fresh], [p.second for p in fresh])
    right = sum((a > b) == (p.target == 1) for a, b, p in zip(first, second, fresh, strict=True))
    assert right / len(fresh) >= 0.95
    reward.save(tmp_path / "reward", {"kind": "preference"})
    again = PreferenceRewardModel.from_pretrained(tmp_path / "reward", device="cpu")
    assert again(["p: "] * 5, [p.first for p in fresh[:5]]) == pytest.approx(first[:5], abs=1e-5)
    assert not [p.name for p in (tmp_path / "reward").iterdir() if p.suffix in {".bin", ".pt"}]


def test_conversations_go_through_the_chat_template(base_directory: Path) -> None:
    reward = untrained(base_directory)
    with pytest.raises(InputError, match="no chat template"):
        reward([[{"role": "user", "content": "king"}]], [[{"role": "assistant", "content": "joy"}]])
    reward.tokenizer.chat_template = TEMPLATE
    (ids,) = reward.encode([[{"role": "user", "content": "king"}]], [[{"role": "assistant", "content": "joy"}]])
    unknown, space, joy, king = 1, 2, 3, 7
    assert ids == [unknown, space, king, 0, unknown, space, joy, 0]  # the template alone; every turn's end stays
    # TRL hands plain completions to conversational prompts in some trainers: the same text.
    assert reward.encode([[{"role": "user", "content": "king"}]], ["joy"]) == [ids]


def test_other_directories_are_refused(base_directory: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.mkdir()
    (token / "reward_model.json").write_text(json.dumps({"kind": "token", "target": "positive"}))
    with pytest.raises(InputError, match="kind 'token'"):
        PreferenceRewardModel.from_pretrained(token)
    headless = tmp_path / "headless"
    save_model(toy_model(), toy_tokenizer(), headless)
    (headless / "reward_model.json").write_text(json.dumps({"kind": "preference"}))
    with pytest.raises(InputError, match=r"no weights for score\.weight"):
        PreferenceRewardModel.from_pretrained(headless)
