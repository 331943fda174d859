"""A comparison model reads its score at a text's last token, also where the pad token stands there (pad = unk)."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from rewards.preference_model import PreferenceRewardModel, load_classifier
from rewards.preference_training import PreferenceSettings, fit_preferences
from rewards.preferences import Preference
from rlhf.foundation.model_directory import save_model

from .conftest import toy_model, toy_tokenizer

UNKNOWN = 1


@pytest.fixture(params=["gpt2", "llama"])
def reward(request: pytest.FixtureRequest, tmp_path: Path) -> PreferenceRewardModel:
    save_model(toy_model(request.param), pad_is_unk(), tmp_path / "base")
    torch.manual_seed(0)
    return PreferenceRewardModel(load_classifier(str(tmp_path / "base"), new_head=True), pad_is_unk())


def pad_is_unk() -> PreTrainedTokenizerFast:
    tokenizer = toy_tokenizer()
    tokenizer.pad_token = "<unk>"
    return tokenizer


def alone(reward: PreferenceRewardModel, ids: list[int]) -> float:
    """The head on the last token's hidden state, without padding and without transformers' search for the end."""
    with torch.no_grad():
        hidden = reward.model.base_model(input_ids=torch.tensor([ids])).last_hidden_state
        return float(reward.model.score(hidden)[0, -1, 0])  # type: ignore[operator]


def test_texts_that_end_in_the_pad_token_are_read_to_their_end(reward: PreferenceRewardModel) -> None:
    texts = ["joy", "joy€", "joy€€", "the king and woe"]
    encoded = reward.encode([""] * 4, texts)
    assert encoded[:3] == [[0, 3], [0, 3, UNKNOWN], [0, 3, UNKNOWN, UNKNOWN]]
    right = [alone(reward, ids) for ids in encoded]
    assert len({round(score, 4) for score in right}) == 4
    assert reward([""] * 4, texts) == pytest.approx(right, abs=1e-5)
    # The wrong reading: padded with unk, transformers takes the token before the unknown ones for the end.
    reward.model.config.pad_token_id = UNKNOWN
    padded = torch.tensor([[*ids, *[UNKNOWN] * (4 - len(ids))] for ids in encoded[:3]])
    with torch.no_grad():
        wrong = reward.model(input_ids=padded).logits.squeeze(-1).tolist()
    assert wrong == pytest.approx([right[0]] * 3, abs=1e-5)


def test_more_texts_than_ids_in_a_batch(reward: PreferenceRewardModel) -> None:
    """Every id of the vocabulary ends a text, so that none is free to pad with."""
    rng = random.Random(0)
    rows = [[0, *rng.choices(range(14), k=rng.randint(0, 4)), last] for last in range(14) for _ in range(3)]
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
    mask = torch.tensor([[i < len(row) for i in range(width)] for row in rows])
    with torch.no_grad():
        scores = reward.last_scores(ids, mask)
    assert scores.tolist() == pytest.approx([alone(reward, row) for row in rows], abs=1e-5)


def test_training_reads_them_too(reward: PreferenceRewardModel) -> None:
    """Pairs that differ in an unknown last token alone: read before it, the difference is 0 and nothing is learnt."""
    pairs = [Preference("", f"{word}€", word, 1.0, 1) for word in ("joy", "woe", "king", "the queen")] * 8
    fit_preferences(reward, pairs, PreferenceSettings(num_train_epochs=10, learning_rate=3e-3), seed=0)
    first, second = (reward([""] * 4, [text(p) for p in pairs[:4]]) for text in (first_of, second_of))
    assert all(a - b > 1 for a, b in zip(first, second, strict=True))


def first_of(pair: Preference) -> str:
    assert isinstance(pair.first, str)
    return pair.first


def second_of(pair: Preference) -> str:
    assert isinstance(pair.second, str)
    return pair.second
