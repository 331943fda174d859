"""Ensembles: the three aggregates by hand, real members that differ, and the way through the command."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from rewards.ensemble import RewardEnsemble, aggregate, fit_ensemble
from rewards.loading import load_reward_model
from rewards.steps.fit import fit
from rewards.steps.reward_config import RewardConfig
from rewards.targets import pool_labels
from rewards.token_model import TokenRewardModel
from rewards.token_recipe import Recipe
from rewards.token_training import FitSettings
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import write_records

from .conftest import toy_labels, toy_model, toy_text, toy_tokenizer


def test_aggregates_by_hand() -> None:
    rewards = torch.tensor([[-1.0, -2.0], [-3.0, -2.0], [-5.0, -2.0]])
    assert aggregate(rewards, "mean", 1.0).tolist() == [-3, -2]
    assert aggregate(rewards, "worst", 1.0).tolist() == [-5, -2]
    # Variance over members, by k: (4 + 0 + 4)/3 = 8/3; λ = 3/2: -3 - 4.
    assert aggregate(rewards, "penalty", 1.5).tolist() == pytest.approx([-7, -2])


@pytest.fixture(scope="module")
def members() -> list[TokenRewardModel]:
    settings = FitSettings(num_train_epochs=6, learning_rate=5e-3, dense_weight=1.0)
    recipe = Recipe(toy_model(), toy_tokenizer(), target="positive", settings=settings, seed=0)
    return fit_ensemble(recipe, pool_labels(toy_labels(120)).texts, 3)


def test_members_differ_and_the_ensemble_is_their_aggregate(members: list[TokenRewardModel]) -> None:
    rng = random.Random(4)
    texts = [toy_text(rng) for _ in range(20)]
    each = torch.tensor([member([""] * 20, texts) for member in members])
    assert each.std(0).min() > 1e-5
    for how in ("mean", "worst", "penalty"):
        ensemble = RewardEnsemble(members, how=how, penalty=2.0)  # type: ignore[arg-type]
        assert ensemble([""] * 20, texts) == pytest.approx(aggregate(each, how, 2.0).tolist(), abs=1e-5)  # type: ignore[arg-type]
        assert ensemble.__name__ == f"{how}_log_p_positive"
    disagreement = RewardEnsemble(members).disagreement([""] * 20, texts)
    assert disagreement == pytest.approx(each.exp().std(0, unbiased=False).tolist(), abs=1e-5)
    worst, spread = RewardEnsemble(members).worst_and_spread([""] * 20, texts)
    assert worst.tolist() == pytest.approx(each.min(0).values.tolist(), abs=1e-5)
    assert spread.tolist() == pytest.approx(each.std(0, unbiased=False).tolist(), abs=1e-5)


def test_the_same_texts_are_read_once_and_others_anew(
    members: list[TokenRewardModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    ensemble, asked = RewardEnsemble(members), []
    read = TokenRewardModel.log_probs
    monkeypatch.setattr(
        TokenRewardModel,
        "log_probs",
        lambda self, p, c: asked.append(list(c)) or read(self, p, c),  # type: ignore[func-returns-value]
    )
    texts = ["joy", "woe"]
    rewards = ensemble(["", ""], texts)
    worst, _ = ensemble.worst_and_spread(["", ""], list(texts))
    assert asked == [["joy", "woe"]] * 3
    assert rewards[0] > worst[0]
    texts[0] = "woe"  # the caller's own list, changed in place
    assert ensemble(["", ""], texts)[0] == pytest.approx(rewards[1], abs=1e-6)
    ensemble(["", "x"], texts)
    assert len(asked) == 9
    monkeypatch.setattr(
        TokenRewardModel, "log_probs", lambda self, p, c: torch.tensor([float(len(turn[0]["content"])) for turn in c])
    )
    turns: list[Any] = [[{"role": "assistant", "content": "joy"}]]
    assert ensemble.member_rewards([""], turns).tolist() == [[3.0]] * 3
    turns[0][0]["content"] = "sorrow"  # within the caller's own message
    assert ensemble.member_rewards([""], turns).tolist() == [[6.0]] * 3


def test_it_survives_the_disk(members: list[TokenRewardModel], tmp_path: Path) -> None:
    ensemble = RewardEnsemble(members, how="worst")
    ensemble.save(tmp_path / "ensemble", {"normalization": None})
    again = load_reward_model(tmp_path / "ensemble", device="cpu")
    assert isinstance(again, RewardEnsemble)
    assert again([""], ["joy woe"]) == pytest.approx(ensemble([""], ["joy woe"]), abs=1e-5)
    single = load_reward_model(tmp_path / "ensemble" / "member-1", device="cpu")  # usable on its own
    assert single([""], ["joy"]) == pytest.approx(members[1]([""], ["joy"]), abs=1e-5)
    ensemble.save(tmp_path / "ensemble", {"normalization": None})  # replaces its like
    with pytest.raises(InputError, match="kind 'ensemble'"):
        TokenRewardModel.from_pretrained(tmp_path / "ensemble")


def test_unusable_ensembles(members: list[TokenRewardModel]) -> None:
    with pytest.raises(InputError, match="1 members"):
        RewardEnsemble(members[:1])
    with pytest.raises(InputError, match="aggregate 'median'"):
        RewardEnsemble(members, how="median")  # type: ignore[arg-type]


def test_command(tmp_path: Path, base_directory: Path) -> None:
    write_records(tmp_path / "labels.jsonl", toy_labels(120))
    config = RewardConfig(
        model_name_or_path=str(base_directory),
        labels=str(tmp_path / "labels.jsonl"),
        output_dir=str(tmp_path / "out"),
        ensemble=2,
        aggregate="penalty",
        num_train_epochs=8.0,
        learning_rate=5e-3,
        dense_weight=1.0,
        allow_weak=True,  # eleven held-out texts decide little
        quiet=True,
    )
    result = fit.run(config)
    assert result.report["kind"] == "ensemble"
    assert result.report["members"] == ["member-0", "member-1"]
    assert load_reward_model(tmp_path / "out", device="cpu")([""], ["joy joy"])[0] > -0.6
    with pytest.raises(InputError, match="--overwrite"):
        fit.run(config)
