"""A classifier by its hub name through every step that takes a reward."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import constants

from rewards.loading import load_reward
from rlhf.foundation.records import read_samples
from tests.rewards.classifier_kinds import save
from tests.rewards.test_foreign_rewards import SMALL, policy, run_command, samples_of

__all__ = ["policy"]  # a fixture


def test_a_name_of_the_hub_goes_through_every_step(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the local cache alone: no network is asked."""
    snapshot = hub_cache(tmp_path / "hub", "some-lab/sst", monkeypatch)
    monkeypatch.chdir(tmp_path)
    start = ["ppo", "--model_name_or_path", policy, "--output_dir", "run", *SMALL]
    run_command(*start, "--reward_model_path", "some-lab/sst", "--reward_label", "POSITIVE")
    samples = read_samples(sorted(Path("run/samples").iterdir())[-1])
    by_directory = load_reward(snapshot, label="POSITIVE")
    by_hand = by_directory([s.prompt for s in samples], [s.completion for s in samples])
    assert [s.reward for s in samples] == pytest.approx(by_hand, abs=1e-5)
    assert json.loads(Path("run/run.json").read_text())["reward_functions"] == ["sst:POSITIVE"]

    options = ["--num_samples", 8, "--best_of_n_samples", 0, "--quiet"]
    run_command("evaluate", "run", "--gold_reward_model_path", "some-lab/sst:NEGATIVE", *options)
    assert "sst:NEGATIVE" in Path("run/evaluation.json").read_text()
    named = ["--samples", samples_of("run", True), "--output_path", "distance.json"]
    run_command("compare", "some-lab/sst:POSITIVE", f"{snapshot}:POSITIVE", *named)
    (row,) = json.loads(Path("distance.json").read_text())["rows"]
    assert row["distance"] == pytest.approx(0.0, abs=1e-6)  # the same model by both names
    search = ["--num_rounds", 1, "--candidates", 4, "--num_starts", 1, "--attribution_samples", 4, "--quiet"]
    found = ["--model_name_or_path", policy, "--samples", samples_of("run", True), *search]
    run_command("probe", "some-lab/sst:POSITIVE", *found, "--output_dir", "by_name")
    run_command("probe", f"{snapshot}:POSITIVE", *found, "--output_dir", "by_directory")
    by_name, by_place = (json.loads(Path(name, "probe.json").read_text()) for name in ("by_name", "by_directory"))
    assert by_name["highest"] == by_place["highest"] != []


def hub_cache(root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local cache of the hub with one classifier; where its files are."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    entry = root / f"models--{name.replace('/', '--')}"
    save(entry / "snapshots" / commit, "bert", 3)
    (entry / "refs").mkdir()
    (entry / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(root))
    monkeypatch.setattr("transformers.utils.hub.TRANSFORMERS_CACHE", str(root), raising=False)
    return entry / "snapshots" / commit
