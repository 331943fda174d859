"""A run read back from elsewhere, and one whose files are no longer what the trainer wrote."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf.cli import main
from rlhf.evaluation.evaluate import EvaluateConfig, evaluate
from rlhf.evaluation.export import ExportConfig, export
from rlhf.foundation.errors import InputError
from rlhf.ppo.finetune import PPOCommandConfig, finetune
from rlhf.runs.reading import read_run
from rlhf.whole_loop.rounds import last_checkpoint

REWARD = """def stops(prompts, completions, completion_ids=None, **kwargs):
    return [float('.' in c) for c in completions]
"""
FEW: dict[str, Any] = {"num_samples": 8, "heat_samples": 0, "best_of_n_samples": 0, "quiet": True}


@pytest.fixture
def work(trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with model/, reward.py and run/, all named by relative paths; the working directory is another."""
    work = tmp_path / "work"
    shutil.copytree(trained_run.parent / "model", work / "model")
    (work / "reward.py").write_text(REWARD)
    monkeypatch.chdir(work)
    begin("run", use_peft=True, lora_target_modules=["c_attn"])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return work


def begin(output: str, **options: Any) -> None:
    finetune.run(
        PPOCommandConfig(
            output_dir=output, model_name_or_path="model", reward_func=["reward.py:stops"], iteration_batch_size=64,
            minibatch_size=32, max_completion_length=8, learning_rate=1e-2, num_eval_samples=16, max_iterations=1,
            normalization_samples=64, ladder_step=0.05, quiet=True, use_cpu=True, **options,
        )
    )  # fmt: skip


def test_evaluated_from_another_working_directory_and_after_a_move(work: Path, tmp_path: Path) -> None:
    first = evaluate.run(EvaluateConfig(run=str(work / "run"), **FEW)).scores
    shutil.move(work, tmp_path / "moved")
    run = tmp_path / "moved" / "run"
    assert evaluate.run(EvaluateConfig(run=str(run), **FEW)).scores == first
    out = export.run(ExportConfig(run=str(run), rung=read_run(run).rungs[-1].name, output_dir=str(tmp_path / "out")))
    assert not (out / "adapter_config.json").exists()  # its base was found too


def test_a_run_that_moved_alone_finds_its_model_and_reward_where_they_were(work: Path, tmp_path: Path) -> None:
    first = evaluate.run(EvaluateConfig(run=str(work / "run"), **FEW)).scores
    shutil.move(work / "run", tmp_path / "archived")
    assert evaluate.run(EvaluateConfig(run=str(tmp_path / "archived"), **FEW)).scores == first


def test_a_reward_that_is_nowhere_is_named_with_the_option(work: Path, tmp_path: Path) -> None:
    shutil.move(work / "reward.py", tmp_path / "reward.py")
    with pytest.raises(InputError, match=r"--reward_func: got neither .*reward\.py nor \.\./reward\.py from the run"):
        evaluate.run(EvaluateConfig(run=str(work / "run"), **FEW))
    here = [f"{tmp_path / 'reward.py'}:stops"]
    assert evaluate.run(EvaluateConfig(run=str(work / "run"), reward_func=here, **FEW)).rungs


def test_a_reward_that_changed_is_no_proxy_any_more(work: Path) -> None:
    (work / "reward.py").write_text(REWARD.replace("'.'", "'e'"))
    with pytest.raises(InputError, match="changed since the run was trained: reward 1, stops"):
        evaluate.run(EvaluateConfig(run=str(work / "run"), **FEW))


def test_an_adapter_on_another_base_is_refused(work: Path, trained_run: Path) -> None:
    shutil.rmtree(work / "model")
    shutil.copytree(trained_run / read_run(trained_run).rungs[-1].path, work / "model")
    with pytest.raises(InputError, match="an adapter whose base is no longer what it was"):
        evaluate.run(EvaluateConfig(run=str(work / "run"), **FEW))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def turn_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))


@pytest.fixture
def damaged(trained_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_run, tmp_path / "run"))


@pytest.mark.parametrize(
    ("spoil", "wrong"), [(cut, "bytes where"), (turn_a_bit, "was changed"), (Path.unlink, "is gone")]
)
def test_weights_that_are_not_what_was_written_go_nowhere(
    damaged: Path, tmp_path: Path, spoil: Callable[[Path], None], wrong: str
) -> None:
    rung = read_run(damaged).rungs[-1]
    spoil(damaged / rung.path / "model.safetensors")
    with pytest.raises(InputError, match=f"rung {rung.name} of .*model.safetensors.* {wrong}"):
        export.run(ExportConfig(run=str(damaged), rung=rung.name, output_dir=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match=f"rung {rung.name} of .* {wrong}"):
        evaluate.run(EvaluateConfig(run=str(damaged), **FEW))
    with pytest.raises(InputError, match=wrong):
        last_checkpoint(damaged)


def test_reading_a_run_names_what_is_wrong(damaged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, *_ = read_run(damaged).rungs
    assert capsys.readouterr().err == ""
    cut(damaged / first.path / "model.safetensors")
    turn_a_bit(damaged / second.samples)
    read_run(damaged)
    (told,) = capsys.readouterr().err.splitlines()
    assert f"rung {first.name}: {first.path}/model.safetensors has " in told
    assert f"rung {second.name}: {second.samples} was changed since it was written" in told


def test_a_report_names_what_is_wrong_once(damaged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut(damaged / read_run(damaged).rungs[0].path / "model.safetensors")
    assert main(["inspect", str(damaged), "--quiet"]) == 0
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_run_without_digests_is_read_with_a_word(damaged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ladder = json.loads((damaged / "ladder.json").read_text())
    for rung in ladder["rungs"]:
        del rung["files"]
    (damaged / "ladder.json").write_text(json.dumps(ladder))
    assert len(read_run(damaged).rungs) == len(ladder["rungs"])
    assert "no digests in ladder.json, so whether the files are whole could not be checked" in capsys.readouterr().err
