"""`rlhf loop` on a tiny model: rounds on disk, a policy's own samples relabelled, people waited for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlhf.commands.loop import main
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import Label, read_labels, read_samples, write_records
from rlhf.whole_loop.reproduce import ReproduceConfig, reproduce
from rlhf.whole_loop.rounds import Loop, LoopConfig

REWARD = {"num_train_epochs": 1.0, "allow_weak": True}
PPO = {
    "iteration_batch_size": 64,
    "max_iteration_batch_size": 64,
    "minibatch_size": 16,
    "per_device_train_batch_size": 16,
    "max_completion_length": 12,
    "learning_rate": 3e-3,
    "max_iterations": 3,
    "num_eval_samples": 64,
    "normalization_samples": 64,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A language model that has seen the play for a moment."""
    from rlhf.language_model.pretrain import pretrain
    from rlhf.language_model.pretrain_config import PretrainConfig

    directory = tmp_path_factory.mktemp("loop") / "model"
    pretrain.run(PretrainConfig(output_dir=str(directory), max_steps=40, hidden_size=32, quiet=True))
    return str(directory)


@pytest.fixture
def options(model: str, tmp_path: Path) -> dict[str, str | int | bool]:
    """Options of a loop that takes seconds; recipes as JSON, which is YAML too."""
    (tmp_path / "reward.yaml").write_text(json.dumps(REWARD))
    (tmp_path / "ppo.yaml").write_text(json.dumps(PPO))
    return {
        "model_name_or_path": model,
        "output_dir": str(tmp_path / "loop"),
        "rounds": 2,
        "num_labels": 60,
        "reward_config": str(tmp_path / "reward.yaml"),
        "ppo_config": str(tmp_path / "ppo.yaml"),
        "quiet": True,
    }


@pytest.mark.slow
def test_rounds_relabel_the_policy_and_are_compared_at_one_kl(
    options: dict[str, str | int | bool], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "loop"
    said = Loop(LoopConfig(**options, gold="lexicon", control=True)).run()  # type: ignore[arg-type]
    first, second, control = root / "round-1", root / "round-2", root / "round-2" / "control"
    assert {s.source for s in read_samples(first / "samples.jsonl")} == {options["model_name_or_path"]}
    last = json.loads((first / "ppo" / "ladder.json").read_text())["rungs"][-1]["path"]
    assert {s.source for s in read_samples(second / "samples.jsonl")} == {str(first / "ppo" / last)}
    assert {s.source for s in read_samples(control / "samples.jsonl")} == {options["model_name_or_path"]}
    together = read_labels(second / "all_labels.jsonl")
    assert together == read_labels(first / "labels.jsonl") + read_labels(second / "labels.jsonl")
    assert len(together) == 120
    assert json.loads((second / "ppo" / "run.json").read_text())["resolved"]["reward_model_path"] == [
        str(second / "reward_model")
    ]
    rounds = json.loads((root / "rounds.json").read_text())
    assert [row["name"].strip() for row in rounds["rounds"]] == ["round 1", "round 2", "control 2"]
    assert rounds["rounds"][0]["gain"]["mean"] == 0
    assert rounds["rounds"][0]["frozen"]["mean"] == pytest.approx(rounds["rounds"][0]["proxy"]["mean"])
    assert "labelled gold" in said
    assert (root / "report.html").stat().st_size > 100_000

    # The whole loop once more, in another place: every number is the same, every label knows its model.
    assert reproduce.run(ReproduceConfig(run=str(root), quiet=True)).sameness.same
    lineage = json.loads((second / "reward_model" / "reward_model.json").read_text())["lineage"]
    assert set(lineage["labels"]["sources"]) == {options["model_name_or_path"], str(first / "ppo" / last)}

    # Again: nothing is done twice, the same table is printed.
    capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in root.rglob("metrics.jsonl")}
    again = Loop(LoopConfig(**options, gold="lexicon", control=True)).run()  # type: ignore[arg-type]
    assert again.splitlines()[:6] == said.splitlines()[:6]
    assert capsys.readouterr().out == ""
    assert {path: path.stat().st_mtime_ns for path in root.rglob("metrics.jsonl")} == before
    with pytest.raises(InputError, match=r"--noise: got 0\.2"):
        Loop(LoopConfig(**options, gold="lexicon", control=True, noise=0.2)).run()  # type: ignore[arg-type]


@pytest.mark.slow
def test_people_are_waited_for(
    options: dict[str, str | int | bool], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"--{key}={value}" for key, value in (options | {"rounds": 1}).items()] + ["--annotator", "people"]
    main(words)
    said = capsys.readouterr().out
    place = tmp_path / "loop" / "round-1"
    assert f"waits for labels of {place / 'samples.jsonl'}" in said
    assert f"rlhf label push --samples {place / 'samples.jsonl'} --output_dir {place}" in said
    assert not (place / "reward_model").exists()
    samples = read_samples(place / "samples.jsonl")
    answers = [
        Label(
            uid=s.uid, prompt=s.prompt, completion=s.completion, label=("positive", "negative", "neutral")[i % 3],
            annotator="ana", created_at="2026-01-01T00:00:00Z", lead_time=2.0, origin="manual",
        )
        for i, s in enumerate(samples)
    ]  # fmt: skip
    write_records(place / "labels.jsonl", answers)
    main(words)
    assert "round 1" in capsys.readouterr().out
    assert json.loads((place / "ppo" / "run.json").read_text())["status"] == "finished"


@pytest.mark.parametrize(
    ("option", "value"), [("rounds", 0), ("num_labels", 19), ("noise", 1.0), ("noise", -0.1), ("seed", -1)]
)
def test_options_out_of_range(option: str, value: float) -> None:
    with pytest.raises(InputError, match=f"--{option}: got {value}"):
        LoopConfig(model_name_or_path="x", **{option: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("reward_config", '{"no_such_key": 1}', "no_such_key"),
        ("ppo_config", '{"epsilon": 0}', "epsilon"),
        ("model_name_or_path", "nowhere", "nowhere"),
    ],
)
def test_a_mistake_is_named_before_a_round_and_can_be_corrected(
    options: dict[str, str | int | bool], tmp_path: Path, key: str, text: str, message: str
) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(text)
    changed = options | {key: str(tmp_path / text) if key == "model_name_or_path" else str(wrong)}
    with pytest.raises(InputError, match=message):
        Loop(LoopConfig(**changed)).run()  # type: ignore[arg-type]
    assert not list((tmp_path / "loop").glob("[!.]*"))
    corrected = Loop(LoopConfig(**options))  # type: ignore[arg-type]
    corrected.draw_unlabelled()
    assert corrected.unlabelled.exists()
