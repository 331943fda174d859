"""The distance of rewards: alike, unrelated and opposite ones, by hand and through the command."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest

from rewards.distance import centred, pearson_distance, reward_distance
from rlhf import cli
from rlhf.evaluation.compare import compare
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import Sample, write_records

from .conftest import toy_text


def test_by_hand() -> None:
    # Two prompts: (1, 3) and (10, 10, 16) become (-1, 1) and (-2, -2, 4).
    rewards, groups = np.array([1.0, 3.0, 10.0, 10.0, 16.0]), np.array([0, 0, 1, 1, 1])
    assert centred(rewards, groups).tolist() == [-1, 1, -2, -2, 4]
    # ρ of (1, -1, 0, 0) and (1, 0, -1, 0) is 1/2: d = √(1/4) = 1/2.
    distance, rho = pearson_distance(np.array([1.0, -1, 0, 0]), np.array([1.0, 0, -1, 0]))
    assert (distance, rho) == (pytest.approx(0.5), pytest.approx(0.5))


def rewards_and_prompts(n_prompts: int) -> tuple[list[float], list[str]]:
    rng = random.Random(0)
    prompts = [f"p{i % n_prompts}" for i in range(600)]
    return [rng.gauss(0, 1) for _ in prompts], prompts


@pytest.mark.parametrize("n_prompts", [1, 5, 60])
def test_rescaled_and_shifted_copies_are_alike_and_flipped_ones_opposite(n_prompts: int) -> None:
    rewards, prompts = rewards_and_prompts(n_prompts)
    shift = {prompt: 7.0 * number for number, prompt in enumerate(sorted(set(prompts)))}
    copy = [3.0 * r + shift[p] for r, p in zip(rewards, prompts, strict=True)]  # another shift for each prompt
    assert reward_distance(rewards, copy, prompts).distance < 1e-3
    assert reward_distance(rewards, [-r for r in copy], prompts).distance > 0.999
    if n_prompts > 1:  # uncentred, the shifts would be taken for a difference
        assert pearson_distance(np.array(rewards), np.array(copy))[0] > 0.1


@pytest.mark.parametrize("n_prompts", [1, 60])
def test_unrelated_rewards_lie_at_one_over_root_two(n_prompts: int) -> None:
    rewards, prompts = rewards_and_prompts(n_prompts)
    rng = random.Random(1)
    found = reward_distance(rewards, [rng.gauss(0, 1) for _ in prompts], prompts)
    assert found.low <= 1 / math.sqrt(2) <= found.high
    assert found.high - found.low < 0.15


def test_constant_rewards_are_refused() -> None:
    rewards, prompts = rewards_and_prompts(5)
    with pytest.raises(InputError, match="second reward"):
        reward_distance(rewards, [1.0] * 600, prompts)
    by_prompt = [float(p[1:]) for p in prompts]  # differs between prompts only: nothing to compare
    with pytest.raises(InputError, match="first reward"):
        reward_distance(by_prompt, rewards, prompts)
    with pytest.raises(InputError, match="no two scored completions"):
        reward_distance([1.0, 2.0], [2.0, 1.0], ["a", "b"])


def test_unscored_and_lonely_completions_are_dropped_and_counted() -> None:
    rewards: list[float | None] = [1.0, 2.0, None, 5.0, 4.0, 9.0]
    found = reward_distance(rewards, [1.0, 2.0, 3.0, 5.0, 4.0, 9.0], ["a", "a", "a", "b", "b", "alone"])
    assert (found.n, found.n_prompts, found.dropped) == (4, 2, 2)


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    rng = random.Random(0)
    texts = [toy_text(rng) + "." * rng.randint(0, 3) for _ in range(100)]
    write_records(tmp_path / "samples.jsonl", [Sample(str(i), "", text, "base") for i, text in enumerate(texts)])
    return tmp_path / "samples.jsonl"


def test_command_on_samples_and_on_a_run(samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rung = {
        "name": "kl-01.00",
        "target_sqrt_kl": 1.0,
        "kl_per_completion": 1.1,
        "kl_per_completion_se": 0.1,
        "iteration": 3,
        "completions_seen": 10,
        "optimizer_steps": 3,
        "reward": 0.0,
        "reward_se": 0.1,
        "n": 100,
        "path": "checkpoints/kl-01.00",
        "samples": "samples.jsonl",
    }
    (tmp_path / "ladder.json").write_text(json.dumps({"rungs": [rung]}))
    rows = compare(["full_stop", "full_stop"], samples=[str(samples)], run_directory=str(tmp_path))
    assert [(row.name, row.kl_per_completion) for row in rows] == [(str(samples), None), ("kl-01.00", 1.1)]
    assert all(row.distance.distance < 1e-6 for row in rows)
    out = tmp_path / "distance.json"
    assert cli.main(["compare", "full_stop", "length", "--samples", str(samples), "--output_path", str(out)]) == 0
    assert "n = 100 completions of 1 prompts" in capsys.readouterr().out
    assert 0.3 < json.loads(out.read_text())["rows"][0]["distance"] < 0.9


@pytest.mark.parametrize(
    "words",
    [["full_stop"], ["full_stop", "length"], ["full_stop", "no_such_rule", "--samples", "SAMPLES"], ["a", "b", "c"]],
)
def test_bad_input_is_one_line(samples: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", *(str(samples) if word == "SAMPLES" else word for word in words)]) == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
