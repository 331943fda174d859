"""The token reward model: what it reads, that padding and batch do not matter, and that it learns a planted rule."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from rewards.targets import pool_labels
from rewards.token_model import (
    NEGATIVE_TOKEN,
    POSITIVE_TOKEN,
    TokenRewardModel,
    add_reward_tokens,
    rescale_log_odds,
)
from rewards.token_recipe import Recipe
from rewards.token_training import FitSettings
from rlhf.foundation.errors import InputError
from rlhf.foundation.model_directory import save_model

from .conftest import END, toy_labels, toy_model, toy_rule, toy_text, toy_tokenizer

SAME = 1e-5  # float32, other batch shapes


def untrained(kind: str = "gpt2", target: str = "positive") -> TokenRewardModel:
    model, tokenizer = toy_model(kind), toy_tokenizer()
    add_reward_tokens(model, tokenizer, seed=0)
    with torch.no_grad():  # far from even, so that mistakes show
        model.get_output_embeddings().weight[-2:] += torch.randn(2, model.config.hidden_size)
    return TokenRewardModel(model.train(False), tokenizer, target=target)  # type: ignore[arg-type]


def by_hand(reward: TokenRewardModel, text: str) -> float:
    """log P(target) from the whole model's logits, one text, no padding."""
    ids = [0, *reward.tokenizer(text, add_special_tokens=False)["input_ids"]]
    logits = reward.model(torch.tensor([ids])).logits[0, -1]
    two = torch.stack([logits[reward.target_id], logits[reward.other_id]])
    return two.log_softmax(0)[0].item()


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma2"])
def test_reward_is_the_log_softmax_over_two_tokens_at_the_last_one(kind: str) -> None:
    reward = untrained(kind)
    texts = ["joy", "", "the king and queen go not joy", "woe woe"]
    found = reward([""] * 4, texts)
    assert found == pytest.approx([by_hand(reward, text) for text in texts], abs=SAME)
    assert all(score < 0 for score in found)
    # Over the whole vocabulary it would be lower.
    logits = reward.model(torch.tensor([[0, 3]])).logits[0, -1]
    assert logits.log_softmax(0)[reward.target_id].item() < found[0] - 0.1


def test_capped_logits_are_not_read_past_the_cap() -> None:
    assert not untrained("gemma2")._reads_linearly
    assert untrained("gpt2")._reads_linearly
    assert untrained("llama")._reads_linearly


def test_scores_do_not_depend_on_company_order_or_padding() -> None:
    reward = untrained()
    rng = random.Random(3)
    texts = [toy_text(rng) for _ in range(40)] + ["", "joy"]
    together = reward([""] * len(texts), texts)
    assert together == pytest.approx([reward([""], [text])[0] for text in texts], abs=SAME)
    assert together == pytest.approx(reward([""] * len(texts), texts[::-1])[::-1], abs=SAME)


def test_text_after_eos_does_not_count_and_prompts_do() -> None:
    reward = untrained("llama")
    plain, cut, split, other = reward(["", "", "the ", ""], ["the joy", f"the joy{END}woe", "joy", "the joywoe"])
    assert plain == pytest.approx(cut, abs=SAME)
    assert plain == pytest.approx(split, abs=SAME)
    assert abs(plain - other) > 100 * SAME


def test_positive_and_negative_probabilities_add_to_one() -> None:
    happy, sad = untrained(target="positive"), untrained(target="negative")
    sad.model.load_state_dict(happy.model.state_dict())
    p, q = happy([""], ["joy woe"])[0], sad([""], ["joy woe"])[0]
    assert math.exp(p) + math.exp(q) == pytest.approx(1, abs=SAME)
    assert (happy.__name__, sad.__name__) == ("log_p_positive", "log_p_negative")


def test_new_tokens_start_even_handed_and_change_no_other_logit() -> None:
    model, tokenizer = toy_model("llama"), toy_tokenizer()
    ids = torch.tensor([[0, 3, 2, 4]])
    before = model(ids).logits
    add_reward_tokens(model, tokenizer, seed=0)
    after = model(ids).logits
    assert torch.allclose(after[..., : before.shape[-1]], before, atol=SAME)
    reward = TokenRewardModel(model, tokenizer, target="positive")
    assert abs(reward([""], ["the king"])[0] - math.log(0.5)) < 0.3


def test_a_vocabulary_larger_than_the_tokenizer_is_not_shrunk() -> None:
    model, tokenizer = toy_model(), toy_tokenizer()
    model.resize_token_embeddings(len(tokenizer) + 10)
    add_reward_tokens(model, tokenizer, seed=0)
    assert model.get_output_embeddings().weight.shape[0] == len(toy_tokenizer()) + 10


def test_a_tokenizer_of_another_model_is_refused() -> None:
    model, tokenizer = toy_model(), toy_tokenizer()
    tokenizer.add_tokens([f"word{i}" for i in range(5)])
    with pytest.raises(InputError, match="made for this model"):
        add_reward_tokens(model, tokenizer, seed=0)


def test_temperature_divides_log_odds() -> None:
    reward = untrained()
    texts = ["joy", "woe the", ""]
    before = reward.log_odds([""] * 3, texts)
    rescale_log_odds(reward, 2.5)
    assert torch.allclose(reward.log_odds([""] * 3, texts), before / 2.5, atol=SAME)


def test_saved_and_loaded_it_scores_the_same_and_is_an_ordinary_model(tmp_path: Path) -> None:
    reward = untrained(target="negative")
    reward.save(tmp_path / "reward", {"kind": "token", "target": "negative"})
    again = TokenRewardModel.from_pretrained(tmp_path / "reward", device="cpu")
    assert again([""], ["joy woe"]) == pytest.approx(reward([""], ["joy woe"]), abs=SAME)
    assert again.target == "negative"
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(tmp_path / "reward")
    assert not list((tmp_path / "reward").glob("*.bin"))
    assert by_hand(again, "joy woe") == pytest.approx(again([""], ["joy woe"])[0], abs=SAME)
    assert model.get_output_embeddings().weight.shape[0] > again.target_id


def test_other_directories_are_refused_in_one_line(tmp_path: Path, base_directory: Path) -> None:
    preference = tmp_path / "preference"
    preference.mkdir()
    (preference / "reward_model.json").write_text(json.dumps({"kind": "preference"}))
    untold = tmp_path / "untold"
    save_model(toy_model(), toy_tokenizer(), untold)
    (untold / "reward_model.json").write_text(json.dumps({"kind": "token", "target": "positive"}))
    torn = tmp_path / "torn"
    torn.mkdir()
    (torn / "reward_model.json").write_text('{"kind": "to')
    for directory, message in [
        (tmp_path / "nowhere", "no such directory"),
        (base_directory, r"without reward_model\.json"),
        (preference, "kind 'preference'"),
        (untold, "without <|happy|>".replace("|", r"\|")),
        (torn, "no valid JSON"),
    ]:
        with pytest.raises(InputError, match=message) as caught:
            TokenRewardModel.from_pretrained(directory)
        assert "\n" not in str(caught.value)


def test_conversations_are_refused() -> None:
    with pytest.raises(InputError, match="plain text"):
        untrained()([[{"role": "user", "content": "hi"}]], [[{"role": "assistant", "content": "joy"}]])  # type: ignore[list-item]


@pytest.mark.parametrize(("kind", "target"), [("gpt2", "positive"), ("llama", "negative")])
def test_it_learns_a_planted_rule_and_scoring_follows(kind: str, target: str) -> None:
    texts = pool_labels(toy_labels(300)).texts
    base = toy_model(kind)
    before = {name: weight.clone() for name, weight in base.state_dict().items()}
    recipe = Recipe(
        base,
        toy_tokenizer(),
        target=target,  # type: ignore[arg-type]
        settings=FitSettings(num_train_epochs=15, learning_rate=5e-3, dense_weight=0.0),
        seed=0,
    )
    reward = recipe.fit(texts)
    rng = random.Random(99)
    fresh = [text for text in (toy_text(rng) for _ in range(300)) if toy_rule(text) != "neutral"]
    odds = reward.log_odds([""] * len(fresh), fresh)
    right = sum((d > 0) == (toy_rule(text) == target) for d, text in zip(odds.tolist(), fresh, strict=True))
    assert right / len(fresh) > 0.95
    assert all(torch.equal(weight, before[name]) for name, weight in base.state_dict().items())  # base untouched
    again = recipe.fit(texts)
    assert torch.equal(again.log_odds([""] * len(fresh), fresh), odds)  # same seed, same result
    assert POSITIVE_TOKEN not in base.config.to_json_string()
    assert NEGATIVE_TOKEN in reward.tokenizer.get_vocab()
