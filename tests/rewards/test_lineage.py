"""Where a reward model came from stands in its reward_model.json; what nobody knows is said as unknown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rewards.lineage import BASE, LABELS, NORMALIZATION, labelled, lineage_digests, lineage_lines, samples_digest
from rewards.loading import load_reward_model
from rewards.steps.fit import fit
from rewards.steps.reward_config import RewardConfig
from rlhf.foundation.digests import damage, seal_holds
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import Sample, read_samples, write_records
from rlhf.whole_loop.origins import origins_of_reward

from .conftest import toy_labels


@pytest.fixture
def files(tmp_path: Path, base_directory: Path) -> dict[str, str]:
    """Labels of ana (60) and ben (40) on the texts of two models, samples of a third, a base model."""
    labels = toy_labels(60, annotator="ana") + toy_labels(40, seed=1, annotator="ben")
    write_records(tmp_path / "labels.jsonl", labels)
    drawn = [Sample(label.uid, "", label.completion, "one" if i < 60 else "two") for i, label in enumerate(labels[:99])]
    write_records(tmp_path / "samples.jsonl", drawn)
    base = [Sample(str(i), "", label.completion, "base") for i, label in enumerate(toy_labels(64, seed=5))]
    write_records(tmp_path / "base.jsonl", base)
    return {
        "model_name_or_path": str(base_directory), "labels": str(tmp_path / "labels.jsonl"),
        "samples": str(tmp_path / "base.jsonl"), "output_dir": str(tmp_path / "rm"),
    }  # fmt: skip


def fitted(files: dict[str, str], **options: object) -> dict[str, object]:
    settings = {"num_train_epochs": 1.0, "allow_weak": True, "quiet": True}
    return fit.run(RewardConfig(**{**files, **settings, **options})).report  # type: ignore[arg-type]


def test_raters_models_and_samples_are_named(files: dict[str, str], tmp_path: Path) -> None:
    report = fitted(files)
    lineage = json.loads((tmp_path / "rm" / "reward_model.json").read_text())["lineage"]
    assert lineage == report["lineage"]
    assert lineage["labels"]["rows"] == 100
    assert lineage["labels"]["raters"] == {"ana": 60, "ben": 40}
    texts = {label.completion for label in toy_labels(60) + toy_labels(40, seed=1)}
    sources = lineage["labels"]["sources"]
    assert sum(sources.values()) == len(texts)
    assert set(sources) <= {"one", "two", "unknown"}
    assert {"one", "two"} <= set(sources)
    assert lineage["samples"]["sources"] == {"base": 64}
    assert all(lineage_digests(report).values())
    assert any("ana (60), ben (40)" in line for line in lineage_lines(report))
    origins = {one.name: one.state for one in origins_of_reward(report, tmp_path / "rm")}
    assert origins == {BASE: "unchanged", LABELS: "unchanged", NORMALIZATION: "unchanged"}


def test_every_file_of_a_reward_model_has_a_digest(files: dict[str, str], tmp_path: Path) -> None:
    report = fitted(files)
    assert seal_holds(report) is True
    there = {path.name for path in (tmp_path / "rm").iterdir()} - {"reward_model.json"}
    assert set(report["files"]) == there  # type: ignore[call-overload]
    assert damage(tmp_path / "rm", report["files"]) is None  # type: ignore[arg-type]
    changed = dict(report, target="negative")
    assert seal_holds(changed) is False
    assert load_reward_model(tmp_path / "rm").place == str(tmp_path / "rm")


def test_what_changed_or_went_is_told(files: dict[str, str], tmp_path: Path) -> None:
    report = fitted(files)
    labels = toy_labels(60, annotator="ana") + toy_labels(40, seed=1, annotator="eve")
    write_records(tmp_path / "labels.jsonl", labels)
    (tmp_path / "base.jsonl").unlink()
    (tmp_path / "base" / "config.json").write_text("{}")
    origins = {one.name: one.state for one in origins_of_reward(report, tmp_path / "rm")}
    assert origins == {BASE: "changed", LABELS: "changed", NORMALIZATION: "not found"}


def test_a_reward_model_moved_with_its_files_finds_them(files: dict[str, str], tmp_path: Path) -> None:
    report = fitted(files)
    (tmp_path / "there").mkdir()
    for name in ("rm", "labels.jsonl", "base.jsonl", "base"):
        (tmp_path / name).rename(tmp_path / "there" / name)
    assert {one.state for one in origins_of_reward(report, tmp_path / "there" / "rm")} == {"unchanged"}


def test_unknown_is_said(tmp_path: Path) -> None:
    assert lineage_digests({"kind": "token"}) == {BASE: None, LABELS: None, NORMALIZATION: None}
    assert "unknown" in lineage_lines({"kind": "token"})[0]
    found = labelled("a data set", "0", ["", ""], [("", "joy"), ("", "woe")])
    assert found["raters"] == {"unknown": 2}
    assert found["sources"] == {"unknown": 2}
    (tmp_path / "samples.jsonl").write_text("{torn")
    with pytest.raises(InputError, match="torn last line"):
        labelled("l", "0", ["ana"], [("", "joy")], [tmp_path / "samples.jsonl"])
    assert labelled(str(tmp_path / "labels.jsonl"), "0", ["ana"], [("", "joy")])["sources"] == {"unknown": 1}


def test_where_samples_lie_is_no_part_of_their_digest(files: dict[str, str]) -> None:
    samples = read_samples(Path(files["samples"]))
    assert samples_digest(samples) == samples_digest([replace(one, source="elsewhere") for one in samples])
    assert samples_digest(samples) != samples_digest([replace(samples[0], completion="x"), *samples[1:]])
    assert samples_digest(samples) != samples_digest(samples[:-1])
