"""Scores for the selection: from files, and from a real (toy) reward model."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from labeling.folder import Task
from labeling.steps.scores import p_positive
from rlhf.foundation.errors import InputError

TASKS = [Task("a", "", "x"), Task("b", "", "y")]


def test_files_in_any_order_and_several_members(tmp_path: Path) -> None:
    for name, (a, b) in {"one": (0.1, 0.9), "two": (0.3, 0.4)}.items():
        rows = [{"uid": "b", "p_positive": b}, {"uid": "a", "p_positive": a}]
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    both = f"{tmp_path / 'one'},{tmp_path / 'two'}"
    assert p_positive([both], [], TASKS) == [[0.1, 0.9], [0.3, 0.4]]


@pytest.mark.parametrize(
    ("row", "message"), [({"uid": "a", "p_positive": 0.5}, "no score for 1 samples"), ({"uid": "a"}, "p_positive None")]
)
def test_missing_scores(tmp_path: Path, row: dict[str, object], message: str) -> None:
    (tmp_path / "s").write_text(json.dumps(row), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        p_positive([str(tmp_path / "s")], [], TASKS)


def test_a_reward_models_probability(tmp_path: Path) -> None:
    """P(positive) = exp(log P(positive)) of the model itself; a pair's is the logistic of the difference."""
    from rewards.token_model import TokenRewardModel, add_reward_tokens
    from tests.rewards.conftest import toy_model, toy_tokenizer

    model, tokenizer = toy_model(), toy_tokenizer()
    add_reward_tokens(model, tokenizer, seed=0)
    for target in ("positive", "negative"):
        reward = TokenRewardModel(model, tokenizer, target=target)  # type: ignore[arg-type]
        report = {"kind": "token", "target": target}
        directory = reward.save(tmp_path / target, report)
        (scores,) = p_positive([], [str(directory)], [Task("a", "", "joy"), Task("b", "", "woe")])
        own = [math.exp(x) for x in reward([""] * 2, ["joy", "woe"])]
        assert scores == pytest.approx(own if target == "positive" else [1 - p for p in own], abs=1e-5)
    (pair,) = p_positive([], [str(tmp_path / "positive")], [Task("p", "", "joy", "woe")])
    one, two = (
        math.log(p / (1 - p))
        for p in p_positive([], [str(tmp_path / "positive")], [Task("a", "", "joy"), Task("b", "", "woe")])[0]
    )
    assert pair[0] == pytest.approx(1 / (1 + math.exp(two - one)), abs=1e-5)
