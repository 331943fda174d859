"""What a resumed run finds: nothing is deleted that the files cannot explain, and what is missing is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rewards.rules import full_stop
from rlhf import PPOConfig, PPOTrainer
from rlhf.foundation.errors import InputError
from rlhf.runs.ladder import read_rungs

Resume = Callable[..., Path]
SMALL: dict[str, Any] = {
    "iteration_batch_size": 64,
    "minibatch_size": 32,
    "max_completion_length": 8,
    "learning_rate": 1e-3,
    "num_eval_samples": 16,
    "normalization_samples": 64,
    "ladder_step": 0.1,
    "quiet": True,
}


@pytest.fixture
def go(build_model: Callable[..., Any], tokenizer: Any, tmp_path: Path) -> Resume:
    """Begins or resumes the run in tmp_path/run for so many iterations."""

    def run(iterations: int = 3, reward: Any = full_stop, model: Any = None, **options: Any) -> Path:
        config = PPOConfig(output_dir=str(tmp_path / "run"), **{**SMALL, "max_iterations": iterations, **options})
        PPOTrainer(model or build_model(), reward, config, processing_class=tokenizer).train()
        return tmp_path / "run"

    return run


@pytest.fixture
def run(go: Resume) -> Path:
    return go()


def content(run: Path) -> dict[str, bytes]:
    """Every file that a person would miss."""
    return {
        str(p.relative_to(run)): p.read_bytes() for p in sorted(run.rglob("*")) if p.is_file() and p.name != ".lock"
    }


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def tear_inside(run: Path) -> None:
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join([lines[0], lines[1][:40] + "\n", *lines[2:]]))


def drop_a_line(run: Path) -> None:
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join([lines[0], *lines[2:]]))


def without_rungs_in_the_state(run: Path) -> None:
    """As a run of an earlier version, with its ladder.json gone."""
    for path in (run / "state").glob("*/state.json"):
        values = json.loads(path.read_text())
        del values["rungs"]
        path.write_text(json.dumps(values))
    (run / "ladder.json").unlink()


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no state": (lambda run: shutil.rmtree(run / "state"), "state: got no state, but 4 lines of metrics and"),
    "no metrics": (lambda run: (run / "metrics.jsonl").unlink(), "metrics.jsonl: got no such file; expected the 3"),
    "cut metrics": (
        lambda run: (run / "metrics.jsonl").write_text((run / "metrics.jsonl").read_text().splitlines()[0] + "\n"),
        "metrics.jsonl: got 1 whole lines; expected the 3 iterations",
    ),
    "torn inside": (tear_inside, "metrics.jsonl, line 2: got no valid JSON"),
    "a line gone": (drop_a_line, "metrics.jsonl, line 2: got iteration 2; expected the line of iteration 1"),
    "no ladder, old run": (without_rungs_in_the_state, "ladder.json: got no such file; expected the rungs"),
    "no run.json": (lambda run: (run / "run.json").unlink(), "files that are no run (no run.json)"),
}


@pytest.mark.parametrize(("spoil", "line"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_rebuilt_is_refused_and_nothing_is_touched(
    go: Resume, run: Path, spoil: Callable[[Path], Any], line: str
) -> None:
    spoil(run)
    before = content(run)
    with pytest.raises(InputError) as caught:
        go(5, resume=True)
    assert line in str(caught.value)
    assert content(run) == before


@pytest.mark.parametrize("spoil", [Path.unlink, cut])
def test_a_ladder_that_is_gone_or_cut_is_written_again_from_the_state(
    go: Resume, run: Path, spoil: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    before = [rung for rung in read_rungs(run / "ladder.json") if rung.iteration < 3]
    assert len(before) >= 2
    spoil(run / "ladder.json")
    go(4, resume=True)
    assert "ladder.json is missing or unreadable; written again" in capsys.readouterr().err
    assert read_rungs(run / "ladder.json")[: len(before)] == before
    for rung in before:
        assert (run / rung.path / "model.safetensors").exists()
        assert rung.damage(run, rung.path) is None


def test_what_the_user_put_there_stays_and_what_is_made_again_is_kept(
    go: Resume, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, *_, end = (rung.name for rung in read_rungs(run / "ladder.json"))  # `end` is of the last iteration
    shutil.copytree(run / "checkpoints" / first, run / "checkpoints" / "my best one")
    (run / "checkpoints" / "notes.txt").write_text("mine")
    (run / "samples" / "notes.txt").write_text("mine")
    last = (run / "checkpoints" / end / "model.safetensors").read_bytes()
    go(4, resume=True)
    assert (run / "checkpoints" / "my best one" / "model.safetensors").exists()
    assert (run / "checkpoints" / "notes.txt").read_text() == (run / "samples" / "notes.txt").read_text() == "mine"
    assert (run / "strays" / "checkpoints" / end / "model.safetensors").read_bytes() == last
    assert (run / "strays" / "samples" / f"{end}.jsonl").exists()
    assert json.loads((run / "strays" / "metrics.jsonl").read_text())["iteration"] == 3
    (told,) = [line for line in capsys.readouterr().err.splitlines() if "strays" in line]
    assert f"1 line of metrics.jsonl, checkpoints/{end}, samples/{end}.jsonl" in told
    for _ in range(2):  # stopped at the same place again: each is kept under a name of its own
        go(4, resume=True)
    again = read_rungs(run / "ladder.json")[-1].name
    assert (run / "strays" / "checkpoints" / f"{again}.2").is_dir()


def test_only_a_torn_last_line_is_passed_over(go: Resume, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (run / "metrics.jsonl").open("a") as stream:
        stream.write('{"iteration": 4, "rew')
    go(4, resume=True)
    assert capsys.readouterr().err.count("the torn last line is passed over") == 1
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in rows] == [0, 1, 2, 3, 4]


def test_rungs_whose_files_are_gone_or_cut_are_named(go: Resume, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = read_rungs(run / "ladder.json")[:2]
    shutil.rmtree(run / first.path)
    cut(run / second.samples)
    go(4, resume=True)
    told = capsys.readouterr().err
    assert f"rung {first.name}: {first.path}/config.json is gone" in told
    assert f"rung {second.name}: {second.samples} has" in told


@pytest.mark.parametrize("resume", [True, False])
def test_killed_while_the_first_run_json_is_written_it_begins_anew(go: Resume, tmp_path: Path, resume: bool) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").touch()
    (tmp_path / "run" / ".run.json.a1b2c3d4.tmp").write_text('{"comm')
    run = go(1, resume=resume)
    assert json.loads((run / "run.json").read_text())["status"] == "finished"
    assert [p.name for p in run.iterdir() if p.name.startswith(".")] == [".lock"]


def test_what_a_killed_run_left_half_written_is_swept_and_a_rung_moved_aside_comes_back(
    go: Resume, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rung = read_rungs(run / "ladder.json")[0]
    for half in (".ladder.json.ab12cd_3.tmp", f"samples/.{rung.name}.jsonl.ab12cd_3.tmp", "state/.000004.ab12cd_3.tmp"):
        (run / half).write_text("half")
    (run / "checkpoints" / f".{rung.name}.ab12cd_3.old").mkdir()
    shutil.move(run / rung.path, run / "checkpoints" / f".{rung.name}.ab12cd_3.old" / rung.name)
    go(4, resume=True)
    told = capsys.readouterr().err
    assert told.count("left by a writer that was killed") == 3
    assert f"put {run / rung.path} back" in told
    assert rung.damage(run, rung.path) is None
    assert [p.name for p in run.rglob(".*")] == [".lock"]


def test_killed_in_its_first_iteration_it_begins_anew(go: Resume, run: Path, tmp_path: Path) -> None:
    whole = content(run)
    shutil.rmtree(run / "state")
    metrics = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text(metrics[0])
    ladder = json.loads((run / "ladder.json").read_text())
    (run / "ladder.json").write_text(json.dumps({**ladder, "rungs": ladder["rungs"][:1]}))
    for rung in ladder["rungs"][1:]:
        shutil.rmtree(run / rung["path"])
        (run / rung["samples"]).unlink()
    go(3, resume=True)
    again = content(run)
    assert again["ladder.json"] == whole["ladder.json"]


def test_a_step_too_large_is_told_and_taken_back(go: Resume, capsys: pytest.CaptureFixture[str]) -> None:
    run = go(9, learning_rate=3e-2, kl_budget=0.05)
    last = read_rungs(run / "ladder.json")[-1]
    assert last.name == "kl-00.05"
    assert last.kl_per_completion == pytest.approx(0.05, rel=0.03)
    (line, *_) = [r for r in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if r["step_too_large"]]
    # sqrt(0.05) = 0.22 and a step of 0.1 allow 0.105 nats.
    assert line["kl_per_completion"] > 0.105
    assert "of it is kept and the learning rate halved; better is another run" in line["step_too_large"]
    assert "a lower --learning_rate (now 0.03)" in line["step_too_large"]
    assert line["step_too_large"] in capsys.readouterr().err
    assert json.loads((run / "run.json").read_text())["stop_reason"].endswith("completion reached")


def test_a_run_that_diverges_stops_and_keeps_its_last_good_rung(go: Resume, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"diverged at iteration 0: .* lower --learning_rate \(now 1e\+08\)"):
        go(3, learning_rate=1e8)
    run = tmp_path / "run"
    assert json.loads((run / "run.json").read_text())["status"] == "diverged"
    (rung,) = read_rungs(run / "ladder.json")
    assert rung.damage(run, rung.path) is None
    assert not (run / "state").exists()


def test_logits_that_overflow_in_a_later_rollout_are_a_divergence(
    build_model: Any, tokenizer: Any, tmp_path: Path
) -> None:
    config = PPOConfig(output_dir=str(tmp_path / "run"), max_iterations=3, **SMALL)
    trainer = PPOTrainer(build_model(), full_stop, config, processing_class=tokenizer)
    trainer.step(trainer.rollout())
    with torch.no_grad():  # finite weights, whose products are not
        trainer.model.transformer.ln_f.weight.fill_(3e38)
        trainer.model.transformer.wte.weight.mul_(1e30)
    with pytest.raises(InputError, match="diverged at iteration 1: got weights or logits that are not finite"):
        trainer.rollout()
    trainer.close()


def test_a_reward_that_ends_the_process_is_one_line(go: Resume) -> None:
    def leaves(completions: list[str], **_: Any) -> list[float]:
        raise SystemExit(0)

    with pytest.raises(InputError, match="reward function leaves: got SystemExit"):
        go(1, leaves)
