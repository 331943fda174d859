"""A run paid by an ensemble logs how far its members are apart, and can be watched by the one that gives least."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from rewards.ensemble import RewardEnsemble
from rewards.rules import full_stop
from rewards.token_model import TokenRewardModel, add_reward_tokens
from rlhf import PPOConfig, PPOTrainer
from rlhf.foundation.errors import InputError
from rlhf.ppo.reward_functions import Rewards
from rlhf.runs.metrics import metric_of
from tests.rlhf.ppo.test_guard import SMALL

NAME = "mean_log_p_positive"


@pytest.fixture
def ensemble(build_model: Any, tokenizer: Any) -> RewardEnsemble:
    """Two models of random weights."""
    members = []
    for seed in range(2):
        model, own = build_model(), copy.deepcopy(tokenizer)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        add_reward_tokens(model, own, seed)
        members.append(TokenRewardModel(model, own, target="positive"))
    return RewardEnsemble(members)


def run(model: Any, tokenizer: Any, rewards: list[Any], directory: Path, **options: Any) -> Path:
    config = PPOConfig(output_dir=str(directory), **{**SMALL, "max_iterations": 3, **options})
    return Path(PPOTrainer(model, rewards, config, processing_class=tokenizer).train().directory)


def test_each_line_has_worst_member_and_disagreement(
    build_model: Any, tokenizer: Any, ensemble: RewardEnsemble, tmp_path: Path
) -> None:
    where = run(build_model(), tokenizer, [full_stop, ensemble], tmp_path / "run")
    lines = [json.loads(line) for line in (where / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        # Of two members the mean is above the least by just their population standard deviation.
        apart = line[f"rewards/{NAME}/mean"] - line[f"rewards/{NAME}/worst_member"]
        assert apart == pytest.approx(line[f"rewards/{NAME}/disagreement"], rel=1e-5)
        assert apart > 1e-3
        assert "rewards/full_stop/worst_member" not in line
    assert metric_of(f"rewards/{NAME}/disagreement").unit == "nats"  # type: ignore[union-attr]


def test_the_guard_reads_the_worst_member_on_a_rungs_samples(
    build_model: Any, tokenizer: Any, ensemble: RewardEnsemble, tmp_path: Path
) -> None:
    config = PPOConfig(
        output_dir=str(tmp_path / "run"),
        **{**SMALL, "max_iterations": 3, "guard": f"{NAME}/worst_member", "ladder_step": 0.05},
    )
    trainer = PPOTrainer(build_model(), [full_stop, ensemble], config, processing_class=tokenizer)
    trainer.train()
    assert len(trainer.guard.courses) > 1
    ladder = {rung["name"]: rung for rung in json.loads((tmp_path / "run" / "ladder.json").read_text())["rungs"]}
    for course in trainer.guard.courses:
        rows = [json.loads(row) for row in (tmp_path / "run" / ladder[course["name"]]["samples"]).open()]
        completions = [row["completion"] for row in rows]
        least = [min(member([""], [text])[0] for member in ensemble.members) for text in completions[:8]]
        assert course["watched"][:8] == pytest.approx(least, abs=1e-4)


def test_names_that_can_be_watched(ensemble: RewardEnsemble, tmp_path: Path, build_model: Any, tokenizer: Any) -> None:
    config = PPOConfig(output_dir="x", reward_weights=[1.0, 0.0, 0.0])
    rewards = Rewards.of([ensemble, full_stop, ensemble], config)
    assert rewards.watchable == [
        NAME, "full_stop", f"{NAME}-2", f"{NAME}/worst_member", f"{NAME}-2/worst_member"
    ]  # fmt: skip
    found = rewards.members(["", ""], ["joy.", "a"])
    assert found.shape == (2, 2, 2)
    assert torch.equal(found[0], found[1])
    assert Rewards.of([full_stop], PPOConfig(output_dir="x")).members([""], ["a"]).shape == (0, 2, 1)
    with pytest.raises(InputError, match=f"--guard: got 'full_stop/worst_member'; expected a reward .*{NAME}/worst"):
        run(build_model(), tokenizer, [full_stop, ensemble], tmp_path / "run", guard="full_stop/worst_member")
