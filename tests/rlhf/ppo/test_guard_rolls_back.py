"""A guard takes a run back to its best rung: the same weights, another way on, nothing lost, the same when resumed."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file

from rewards.rules import full_stop
from rlhf import PPOConfig, PPOTrainer
from rlhf.foundation.errors import InputError
from rlhf.inspection.curves import back_to, whole_updates
from rlhf.inspection.overoptimisation import find_onset
from rlhf.inspection.report import build_report
from rlhf.ppo import resuming
from rlhf.ppo.guard import FELL, LEAST_BETA, MOST_TIMES_BACK, Guard
from rlhf.ppo.kl_control import KLController
from rlhf.ppo.state import trained_parameters
from rlhf.runs.reading import read_run
from tests.rlhf.ppo.test_guard import SMALL, a_few

TIMES = 2
BACK: dict[str, Any] = {**SMALL, "guard": "a_few", "guard_action": "roll_back", "max_iterations": 24}


def trainer_of(model: Any, tokenizer: Any, directory: Path, peft: Any = None, **options: Any) -> PPOTrainer:
    config = PPOConfig(output_dir=str(directory), **{**BACK, **options})
    return PPOTrainer(model, [full_stop, a_few], config, processing_class=tokenizer, peft_config=peft)


def lines_of(directory: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [{key: x for key, x in line.items() if not key.startswith("seconds/")} for line in lines]


def rungs_of(directory: Path) -> list[dict[str, Any]]:
    rungs: list[dict[str, Any]] = json.loads((directory / "ladder.json").read_text())["rungs"]
    return rungs


@pytest.fixture(scope="module", autouse=True)
def ends_the_second_time() -> Iterator[None]:
    """The coefficient of the first time already holds most policies: not many runs come to a third."""
    assert MOST_TIMES_BACK > TIMES
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rlhf.ppo.guard.MOST_TIMES_BACK", TIMES)
        yield


@pytest.fixture(scope="module")
def whole(build_model: Any, tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that went back, unbroken."""
    directory = tmp_path_factory.mktemp("back") / "run"
    trainer_of(build_model(), tokenizer, directory).train()
    return directory


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"critic": "separate", "learning_rate": 3e-3},
        {"critic": "shared", "learning_rate": 3e-3},
        {"peft": LoraConfig(r=4, target_modules=["c_attn", "c_proj"]), "learning_rate": 3e-2},
    ],
    ids=["all weights", "separate critic", "shared critic", "LoRA"],
)
def test_the_weights_are_those_of_the_best_rung_and_what_came_after_is_kept_aside(
    build_model: Any, tokenizer: Any, tmp_path: Path, options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = trainer_of(build_model(), tokenizer, tmp_path / "run", **options)
    weights: dict[int, dict[str, torch.Tensor]] = {}
    line: dict[str, Any] = {"guard": None}
    before: list[Any] = []
    while trainer.stop_reason is None and "back_to" not in (line["guard"] or {}):
        rollout = trainer.rollout()
        weights[trainer.iteration] = trained_parameters(trainer.learner)
        before = list(trainer.ladder.rungs)
        line = trainer.step(rollout)
    back_to = line["guard"]["back_to"]
    trainer.close()

    (at,) = [rung.iteration for rung in before if rung.name == back_to]
    now = trained_parameters(trainer.learner)
    assert now.keys() == weights[at].keys()
    assert all(torch.equal(now[name], weights[at][name]) for name in now)
    assert any(not torch.equal(weights[line["iteration"]][name], weights[at][name]) for name in now)
    assert line["clip_ratio/outside_mean"] is None
    assert (trainer.landing.points, trainer.landing.before) == ([], None)  # of the way that was left
    assert line["guard"]["beta"] >= LEAST_BETA

    rungs = rungs_of(tmp_path / "run")
    assert rungs[-1]["name"] == back_to
    assert [course["name"] for course in trainer.guard.courses] == [rung["name"] for rung in rungs]
    left = {rung.name for rung in before} - {rung["name"] for rung in rungs}
    strays = tmp_path / "run" / "strays"
    found = {path.name for path in (strays / "checkpoints").iterdir()}
    assert left < found  # and the rung that showed the turn
    assert len(found) == len(left) + 1
    assert {path.stem for path in (strays / "samples").iterdir()} == found
    assert not (strays / "metrics.jsonl").exists()
    assert f"since the guard took the run back to {back_to}: " in capsys.readouterr().err
    means = {}
    for place in (tmp_path / "run" / "samples", strays / "samples"):
        for path in place.iterdir():
            texts = [json.loads(row)["completion"] for row in path.read_text().splitlines()]
            means[path.stem] = sum(a_few(texts)) / len(texts)
    assert max(means, key=lambda name: means[name]) == back_to


def test_the_run_goes_on_from_there_with_a_higher_coefficient_and_ends_there_the_last_time(whole: Path) -> None:
    lines, rungs = lines_of(whole), rungs_of(whole)
    backs = [number for number, line in enumerate(lines) if (line["guard"] or {}).get("back_to")]
    assert len(backs) == TIMES
    for number in backs[:-1]:
        before, after = lines[number], lines[number + 1]
        assert after["beta"] == before["guard"]["beta"] >= LEAST_BETA
        assert after["kl_per_completion"] < before["kl_per_completion"]
        assert after["completions_seen"] == before["completions_seen"] + 64
        for rung in (rung for rung in rungs if rung["name"] == before["guard"]["back_to"]):
            if rung["iteration"] < number:  # else one of that name which came after another way back
                apart = abs(after["kl_per_completion"] - rung["kl_per_completion"])
                assert apart < 4 * (after["kl_per_completion_se"] + rung["kl_per_completion_se"])
    facts, end = json.loads((whole / "run.json").read_text()), lines[-1]["guard"]["back_to"]
    assert backs[-1] == len(lines) - 1
    assert rungs[-1]["name"] == end
    assert facts["stop_reason"].startswith("guard: a_few stops rising")
    assert facts["stop_reason"].endswith(f"The run went back {TIMES} times and ends at {end}")
    names = [rung["name"] for rung in rungs]
    assert len(set(names)) == len(names)
    assert {path.name for path in (whole / "checkpoints").iterdir()} == set(names)
    for rung in rungs:
        assert load_file(whole / rung["path"] / "model.safetensors")


def test_an_ended_run_can_go_on_from_its_best_rung(
    build_model: Any, tokenizer: Any, whole: Path, tmp_path: Path
) -> None:
    shutil.copytree(whole, tmp_path / "run")
    rungs, count = rungs_of(whole), len(lines_of(whole))
    trainer_of(
        build_model(),
        tokenizer,
        tmp_path / "run",
        resume=True,
        guard=None,
        guard_action="halt",
        max_iterations=count + 1,
    ).train()
    first = lines_of(tmp_path / "run")[count]
    assert rungs_of(tmp_path / "run")[: len(rungs)] == rungs
    apart = abs(first["kl_per_completion"] - rungs[-1]["kl_per_completion"])
    assert apart < 4 * (first["kl_per_completion_se"] + rungs[-1]["kl_per_completion_se"])


@pytest.mark.parametrize("beyond", [0, 1, 3])
def test_cut_near_the_way_back_it_is_the_same_run(
    build_model: Any, tokenizer: Any, whole: Path, tmp_path: Path, beyond: int
) -> None:
    lines = lines_of(whole)
    first = next(number for number, line in enumerate(lines) if "back_to" in (line["guard"] or {}))
    trainer_of(build_model(), tokenizer, tmp_path / "cut", max_iterations=first + beyond).train()
    trainer_of(build_model(), tokenizer, tmp_path / "cut", resume=True).train()
    assert lines_of(tmp_path / "cut") == lines
    assert [(r["name"], r["reward"]) for r in rungs_of(tmp_path / "cut")] == [
        (r["name"], r["reward"]) for r in rungs_of(whole)
    ]


@pytest.mark.parametrize("moment", ["leave", "set_aside"])
def test_stopped_before_the_rungs_are_moved_it_is_the_same_run(
    build_model: Any, tokenizer: Any, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Once before ladder.json is written anew, once after it."""

    def stops(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(resuming, moment, stops)
        # Begun, a run is set aside from too: let it begin first.
        trainer = trainer_of(build_model(), tokenizer, tmp_path / "cut")
        with pytest.MonkeyPatch.context() as beginning:
            beginning.setattr(resuming, "set_aside", lambda *_: None)
            trainer.begin()
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
    assert not (tmp_path / "cut" / "strays" / "checkpoints").exists()
    trainer_of(build_model(), tokenizer, tmp_path / "cut", resume=True).train()
    assert lines_of(tmp_path / "cut") == lines_of(whole)
    checkpoints = {path.name for path in (tmp_path / "cut" / "checkpoints").iterdir()}
    assert checkpoints == {rung["name"] for rung in rungs_of(whole)}
    assert {path.name for path in (tmp_path / "cut" / "strays" / "checkpoints").iterdir()} == {
        path.name for path in (whole / "strays" / "checkpoints").iterdir()
    }


def test_where_the_best_rungs_weights_were_not_kept_it_halts_and_says_so(
    build_model: Any, tokenizer: Any, whole: Path, tmp_path: Path
) -> None:
    first = next(number for number, line in enumerate(lines_of(whole)) if "back_to" in (line["guard"] or {}))
    trainer_of(build_model(), tokenizer, tmp_path / "run", max_iterations=first, guard_action="halt").train()
    run = trainer_of(build_model(), tokenizer, tmp_path / "run", resume=True).train()
    assert run.stop_reason is not None
    assert run.stop_reason.startswith("guard: a_few stops rising")
    assert run.stop_reason.endswith("before --guard_action roll_back, were not kept")


def test_a_run_that_ends_below_its_best_rung_says_so(
    build_model: Any, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it ends by: here no turn is found on the way."""
    monkeypatch.setattr("rlhf.ppo.guard.find_onset", nothing_found)
    run = trainer_of(build_model(), tokenizer, tmp_path / "run", max_iterations=6).train()
    texts = {
        path.stem: [json.loads(row)["completion"] for row in path.read_text().splitlines()]
        for path in (tmp_path / "run" / "samples").iterdir()
    }
    means = {name: sum(a_few(own)) / len(own) for name, own in texts.items()}
    best, last = max(means, key=lambda name: means[name]), rungs_of(tmp_path / "run")[-1]["name"]
    lost = torch.tensor(a_few(texts[best])) - torch.tensor(a_few(texts[last]))
    error = float(lost.std()) / len(lost) ** 0.5
    assert float(lost.mean()) > FELL * error
    assert run.stop_reason == f"6 iterations done; a_few is {lost.mean():.3f} ± {error:.3f} lower than at {best}"
    early = trainer_of(build_model(), tokenizer, tmp_path / "early", max_iterations=1).train()
    assert early.stop_reason == "1 iterations done"  # it has only risen


def test_between_rungs_only_a_run_that_went_back_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = torch.Generator().manual_seed(0)
    then, beta = torch.randn(64, generator=rng), KLController(0.1, None, 1)

    def looked(shift: float, times_back: int, ends: bool = False) -> Guard:
        guard = Guard("watched", 0, "roll_back", times_back=times_back)
        guard.courses = [{"of": "watched", "name": "kl-1", "d": 1.0, "watched": then.tolist(), "paid": then.tolist()}]
        guard.best, guard.weights = "kl-1", {}
        rollout: Any = SimpleNamespace(
            reward_values=torch.randn(1, 256, generator=rng) + shift, members=torch.zeros(0, 2, 256)
        )
        assert (guard.look(rollout, beta) is not None) == ends
        return guard

    assert not looked(-2.0, 0).goes_back
    assert looked(-2.0, TIMES - 1, ends=True).goes_back
    monkeypatch.setattr("rlhf.ppo.guard.MOST_TIMES_BACK", 3)
    assert not any(looked(0.0, 1).goes_back for _ in range(50))
    assert beta.beta == 0.1
    fell = looked(-2.0, 1)
    assert fell.goes_back
    assert (fell.said["status"], fell.said["back_to"], fell.said["beta"], beta.beta) == ("fell", "kl-1", 0.2, 0.2)


def nothing_found(gold: str, names: list[str], courses: Any, proxy: Any) -> Any:
    return dataclasses.replace(find_onset(gold, names, courses, proxy), status="none_seen")


def test_the_report_tells_it_and_its_line_ends_there(whole: Path) -> None:
    run = read_run(whole)
    backs = [line for line in run.metrics if back_to(line)]
    assert whole_updates(run) == backs[0]["iteration"] + 1
    said = [f"at iteration {line['iteration']} to {line['guard']['back_to']}" for line in backs]
    assert f"The guard took the run back {'; '.join(said)}. The ladder has" in build_report(whole).read_text()


def test_an_action_without_a_guard_is_refused() -> None:
    with pytest.raises(InputError, match="guard_action"):
        PPOConfig(output_dir="x", guard_action="roll_back")
