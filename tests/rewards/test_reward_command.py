"""`rlhf reward` from files to a directory, and each way it refuses, in one line and without leaving anything."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rewards.loading import load_reward_model
from rewards.preference_model import PreferenceRewardModel
from rewards.steps.fit import fit
from rewards.steps.reward_config import RewardConfig
from rewards.token_model import TokenRewardModel
from rlhf import cli
from rlhf.commands.reward import summary
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import LABELS, Label, Sample, write_records

from .conftest import toy_labels
from .test_preferences import comparison


@pytest.fixture
def files(tmp_path: Path, base_directory: Path) -> dict[str, str]:
    """Labels, samples and a base model on disk, as options."""
    write_records(tmp_path / "labels.jsonl", toy_labels(160))
    texts = [label.completion for label in toy_labels(64, seed=5)]
    write_records(
        tmp_path / "samples.jsonl", [Sample(str(i), "", text, "base", seed=0) for i, text in enumerate(texts)]
    )
    return {
        "model_name_or_path": str(base_directory),
        "labels": str(tmp_path / "labels.jsonl"),
        "samples": str(tmp_path / "samples.jsonl"),
        "output_dir": str(tmp_path / "out" / "reward_model"),
    }


def config(files: dict[str, str], **changes: object) -> RewardConfig:
    settings = {"dense_weight": 1.0, "learning_rate": 5e-3, "num_train_epochs": 6.0, "quiet": True}
    return RewardConfig(**{**files, **settings, **changes})  # type: ignore[arg-type]


def test_from_files_to_a_tested_reward_model(files: dict[str, str]) -> None:
    result = fit.run(config(files))
    report = json.loads((result.directory / "reward_model.json").read_text())
    assert report == result.report
    assert report["kind"] == "token"
    assert report["labels"]["rows"] == 160
    assert report["held_out"]["accuracy"]["share"] > 0.9
    assert report["held_out"]["texts"] == report["labels"]["texts"]  # few texts: each held out once
    assert sum(row["n"] for row in report["held_out"]["reliability"]) == report["held_out"]["texts"]
    again = TokenRewardModel.from_pretrained(result.directory, device="cpu")
    scores = again([""] * 64, [label.completion for label in toy_labels(64, seed=5)])
    assert report["normalization"]["offset"] == pytest.approx(sum(scores) / 64, abs=1e-5)
    assert report["normalization"]["n"] == 64
    assert again([""], ["joy joy"])[0] > again([""], ["woe woe"])[0]
    assert "held-out accuracy" in summary(result)
    assert {guard["name"]: guard["passed"] for guard in report["guards"]} == {
        "sign": True,
        "scale": True,
        "distribution": True,
    }
    assert report["trust"]["scores_on_base_samples"]["n"] == 64
    assert [path.name for path in result.directory.parent.iterdir()] == ["reward_model"]


def test_learning_curve_and_ceiling_on_request(files: dict[str, str], tmp_path: Path) -> None:
    labels = [*toy_labels(100), *toy_labels(100, annotator="bob")]
    write_records(tmp_path / "two.jsonl", labels)
    result = fit.run(config(files, labels=str(tmp_path / "two.jsonl"), learning_curve=True))
    curve = result.report["learning_curve"]
    assert len(curve["points"]) == 4
    assert curve["single_label_ceiling"]["value"] == 1.0  # both raters follow the rule
    assert "the next 100 labels would bring" in summary(result)


def test_the_negative_twin_pays_for_woe(files: dict[str, str]) -> None:
    reward = fit.run(config(files, target="negative")).reward
    assert reward([""], ["woe woe"])[0] > reward([""], ["joy joy"])[0]
    assert reward.__name__ == "log_p_negative"


def test_labels_without_a_rule_are_refused_with_a_number(files: dict[str, str], tmp_path: Path) -> None:
    names = ("positive", "negative")
    random_labels = [
        Label(row.uid, "", row.completion, names[hash_of(row.completion) % 2], "anna")  # type: ignore[arg-type]
        for row in toy_labels(120)
    ]
    write_records(tmp_path / "random.jsonl", random_labels)
    weak = config(files, labels=str(tmp_path / "random.jsonl"), num_train_epochs=2.0)
    with pytest.raises(InputError, match=r"learning curve suggests .* \d+ labelled texts.*--allow_weak") as caught:
        fit.run(weak)
    assert "\n" not in str(caught.value)
    assert not Path(files["output_dir"]).exists()
    kept = fit.run(config(files, labels=str(tmp_path / "random.jsonl"), num_train_epochs=1.0, allow_weak=True))
    assert kept.report["better_than_chance"] is False
    assert "WEAK" in summary(kept)


def hash_of(text: str) -> int:
    """A number that no rule on words explains."""
    return sum(ord(letter) * (i + 7) ** 3 for i, letter in enumerate(text)) // 13


def test_comparisons_from_file_to_directory(
    files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [comparison("joy " + label.completion, label.completion) for label in toy_labels(60, seed=2)]
    write_records(tmp_path / "comparisons.jsonl", rows)
    options = {**files, "labels": None, "comparisons": str(tmp_path / "comparisons.jsonl")}
    result = fit.run(RewardConfig(**options, learning_rate=5e-3, num_train_epochs=10.0, quiet=True))  # type: ignore[arg-type]
    assert result.report["kind"] == "preference"
    assert result.report["held_out"]["accuracy"]["share"] > 0.9
    assert result.report["normalization"]["n"] == 64
    reward = load_reward_model(result.directory, device="cpu")
    assert isinstance(reward, PreferenceRewardModel)
    assert reward(["p: "], ["joy king"])[0] > reward(["p: "], ["king"])[0]
    assert "57 answers on 57 pairs" in summary(result)  # three of the 60 texts come twice, so under one uid
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": None},
        {"comparisons": "x.jsonl"},
        {"labels": None, "comparisons": "x.jsonl", "target": "negative"},
        {"rater_noise": 1.0},
    ],
)
def test_options_that_do_not_go_together(files: dict[str, str], changes: dict[str, object]) -> None:
    with pytest.raises(InputError):
        config(files, **changes)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("target", "happy"),
        ("dense_weight", -1.0),
        ("num_train_epochs", -1.0),
        ("learning_rate", 0.0),
        ("per_device_train_batch_size", 0),
        ("weight_decay", -0.1),
        ("model_name_or_path", "/nowhere"),
        ("labels", "/nowhere.jsonl"),
        ("samples", "/nowhere.jsonl"),
    ],
)
def test_options_out_of_range_and_missing_files(files: dict[str, str], option: str, value: object) -> None:
    with pytest.raises(InputError) as caught:
        fit.run(config(files, **{option: value}))
    assert "\n" not in str(caught.value)


def test_what_stands_in_the_output_directory_is_kept(files: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="other files"):
        fit.run(config(files, output_dir=files["model_name_or_path"]))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").touch()
    with pytest.raises(InputError, match="other files"):
        fit.run(config(files, output_dir=str(tmp_path / "home")))


def test_a_reward_model_is_replaced_only_when_told(files: dict[str, str]) -> None:
    fit.run(config(files))
    with pytest.raises(InputError, match="--overwrite"):
        fit.run(config(files))
    assert fit.run(config(files, overwrite=True, seed=1)).report["training"]["seed"] == 1


def test_exit_status_and_one_line(files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = tmp_path / "one_class.jsonl"
    write_records(labels, [Label(str(i), "", f"joy {i}", "positive", "anna") for i in range(30)])
    words = ["reward", "--model_name_or_path", files["model_name_or_path"], "--labels", str(labels)]
    assert cli.main([*words, "--output_dir", files["output_dir"]]) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert "0 are negative" in printed.err
    assert printed.out == ""
    torn = tmp_path / "torn.jsonl"
    torn.write_text('{"uid": "1", "prompt": "", "comp')
    assert cli.main(["reward", "--model_name_or_path", files["model_name_or_path"], "--labels", str(torn)]) == 2
    assert "torn last line" in capsys.readouterr().err


def test_a_rater_at_chance_is_left_out_and_named(
    files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """ana and ben follow the rule, coin goes round the labels; the terminal, the file and `label status` agree."""
    rows = [*toy_labels(90, annotator="ana"), *toy_labels(90, annotator="ben")]
    rows += [replace(row, label=LABELS[i % 3], annotator="coin") for i, row in enumerate(toy_labels(90))]
    rows += [replace(rows[0], annotator="ana "), replace(rows[0], annotator="Ana", uid="u")]
    labels = tmp_path / "three.jsonl"
    write_records(labels, rows)
    assert cli.main(["label", "status", "--labels", str(labels)]) == 0
    status = capsys.readouterr().out
    words = ["--model_name_or_path", files["model_name_or_path"], "--labels", str(labels), "--allow_weak"]
    common = [*words, "--num_train_epochs", "1", "--quiet", "--overwrite", "--output_dir", files["output_dir"]]
    assert cli.main(["reward", *common]) == 0
    told = capsys.readouterr().out
    report = json.loads((Path(files["output_dir"]) / "reward_model.json").read_text())["labels"]
    out = report["pooling"]["left_out"]
    assert list(out) == ["coin"]
    said = f"kappa {out['coin']['value']:.2f} ± {out['coin']['se']:.2f} on {out['coin']['shared']} tasks"
    assert f"left out, no better than chance: coin ({said}" in told
    assert f"NO BETTER THAN CHANCE, {said}" in status
    for line in (
        "rows that repeat a rater's row on the same task: 1; the later one counts",
        "ana is written in 2 ways ('ana', 'ana '): counted as one rater",
        "'Ana', 'ana' differ by case only: counted as 2 raters",
    ):
        assert line in told
        assert line in status
    assert f"{report['counted']} labels" in told
    assert f", {report['counted']} labels (" in status
    assert f"labelled: {report['texts']} tasks" in status
    right = report["pooling"]["raters"]["ben"]["accuracy"]
    assert f"right on about {right:.0%} (Dawid-Skene)" in status
    assert cli.main(["reward", *common, "--pooling", "share"]) == 0
    assert "left out" not in capsys.readouterr().out
    assert cli.main(["reward", *common, "--pooling", "vote"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
