"""A training cell that is run twice: what a failed try leaves, and a run that replaces another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import GPT2LMHeadModel

from rewards.rules import full_stop
from rlhf import PPOConfig, PPOTrainer
from rlhf.foundation.errors import InputError
from rlhf.inspection.opened_run import OpenedRun
from rlhf.runs.replacing import WRITTEN, set_aside

Train = Callable[..., OpenedRun]


@pytest.fixture
def trainer(build_model: Callable[..., GPT2LMHeadModel], tokenizer: Any, tmp_path: Path) -> Callable[..., PPOTrainer]:
    """A trainer in tmp_path/run, of one iteration unless told otherwise."""

    def make(reward: Any = full_stop, **options: Any) -> PPOTrainer:
        small: dict[str, Any] = {
            "iteration_batch_size": 32, "minibatch_size": 16, "max_completion_length": 8, "num_eval_samples": 16,
            "normalization_samples": 32, "max_iterations": 1, "quiet": True,
        }  # fmt: skip
        config = PPOConfig(output_dir=str(tmp_path / "run"), **(small | options))
        return PPOTrainer(build_model(), reward, config, processing_class=tokenizer)

    return make


@pytest.fixture
def train(trainer: Callable[..., PPOTrainer]) -> Train:
    return lambda *given, **options: trainer(*given, **options).train()


def fails_at(call: int) -> Callable[..., list[float]]:
    """A reward that fails at its nth call: 1 and 2 trials, 3 the constants, 4 the first rollout, 6 the second one."""
    calls: list[int] = []

    def reward(completions: list[str], **_: Any) -> list[float]:
        calls.append(len(completions))
        return [float(text.count(",")) / (len(calls) != call) for text in completions]

    return reward


def content(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file() and p.name != ".lock"}


@pytest.mark.parametrize("call", [1, 2, 3, 4, 5])
def test_what_fails_before_an_iteration_is_done_leaves_no_directory(train: Train, tmp_path: Path, call: int) -> None:
    with pytest.raises(InputError, match="ZeroDivisionError"):
        train(fails_at(call))
    assert list(tmp_path.iterdir()) == []
    assert train().stop_reason == "1 iterations done"


def test_what_fails_later_is_kept_for_resume(train: Train, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ZeroDivisionError"):
        train(fails_at(6))
    with pytest.raises(InputError, match="give --resume to continue the run in it, --overwrite to replace that, or"):
        train()
    assert (tmp_path / "run" / "state").is_dir()


def test_a_run_is_replaced_and_other_files_stay(train: Train, tmp_path: Path) -> None:
    train(max_iterations=2)
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    (tmp_path / "run" / "report.html").write_text("of the old run")
    run = train(overwrite=True)
    assert len(run.metrics) == 2  # one update, and the policy that stopped the run
    assert run.record["resolved"]["max_iterations"] == 1
    assert (tmp_path / "run" / "thesis.txt").read_text() == "mine"
    assert {path.name for path in (tmp_path / "run").iterdir()} <= {*WRITTEN, ".lock", "thesis.txt"} - {"report.html"}


def test_a_run_that_replaced_another_is_resumed(train: Train) -> None:
    train()
    train(overwrite=True)
    assert len(train(resume=True, max_iterations=2).metrics) == 3


@pytest.mark.parametrize("call", [1, 2, 3, 4, 5])
def test_a_run_that_fails_first_leaves_the_one_it_was_to_replace(train: Train, tmp_path: Path, call: int) -> None:
    train()
    before = content(tmp_path / "run")
    with pytest.raises(InputError, match="ZeroDivisionError"):
        train(fails_at(call), overwrite=True)
    assert content(tmp_path / "run") == before


@pytest.mark.parametrize("written", ["thesis.txt", "run.json"])
def test_what_is_no_run_is_not_replaced(train: Train, tmp_path: Path, written: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / written).write_text('{"of": "another program"}')
    with pytest.raises(InputError):
        train(overwrite=True)
    assert content(tmp_path / "run") == {written: b'{"of": "another program"}'}


def test_an_empty_directory_may_be_overwritten(train: Train) -> None:
    assert train(overwrite=True).stop_reason == "1 iterations done"


def test_resume_and_overwrite_exclude_each_other(train: Train) -> None:
    with pytest.raises(InputError, match="leave out --overwrite"):
        train(resume=True, overwrite=True)


@pytest.mark.parametrize("moved", ["ladder.json", "metrics.jsonl", "run.json", "all"])
def test_killed_while_the_old_run_is_moved_it_is_whole_again(train: Train, tmp_path: Path, moved: str) -> None:
    root = train().directory
    before = content(root)
    if moved == "all":
        set_aside(root)
        (root / "run.json").write_bytes(before["run.json"])  # of the new run
    else:
        (root / ".replacing").mkdir()
        (root / moved).rename(root / ".replacing" / moved)
    with pytest.raises(InputError, match="not empty"):
        train()
    with pytest.raises(InputError, match="ZeroDivisionError"):
        train(fails_at(2), overwrite=True)  # of its own samples: the run is open by then
    assert content(root) == before


def test_killed_after_its_first_iteration_the_new_run_stands(train: Train) -> None:
    root = train().directory
    set_aside(root)
    for path in (root / ".replaced").iterdir():  # the new run's files, the same here
        if path.is_file():
            (root / path.name).write_bytes(path.read_bytes())
    (root / "state").mkdir()
    with pytest.raises(InputError):  # no state of it
        train(resume=True, max_iterations=3)
    assert not (root / ".replaced").exists()


def test_a_loop_that_was_left_open_is_told_to_close(trainer: Callable[..., PPOTrainer]) -> None:
    left = trainer()
    left.begin()
    with pytest.raises(InputError, match=r"in use by another trainer of this process .* call its `close\(\)`"):
        trainer(overwrite=True).train()
    left.close()
    trainer().train()
