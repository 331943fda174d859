"""Killed at any moment and resumed: the same lines, the same rungs, the same bytes."""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from rewards.rules import full_stop
from rlhf import PPOConfig, PPOTrainer, cli
from rlhf.foundation.errors import InputError
from rlhf.ppo import siblings
from rlhf.runs.ladder import read_rungs
from rlhf.runs.writing import RunDirectory

OPTIONS = shlex.split(
    "--reward_func full_stop --iteration_batch_size 128 --max_iteration_batch_size 512 --minibatch_size 32 "
    "--max_completion_length 12 --learning_rate 1e-3 --num_eval_samples 64 --normalization_samples 128 --kl_budget 3 "
    "--max_iterations 12 --clip_ratio_low 0.02 --ladder_step 0.1"
)


def command(model: Path, output: Path, *extra: str) -> list[str]:
    start = [sys.executable, "-m", "rlhf.ppo", "--model_name_or_path", str(model), "--output_dir", str(output)]
    return [*start, *OPTIONS, *extra]


def start(model: Path, output: Path, *extra: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command(model, output, *extra), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(model: Path, output: Path, *extra: str) -> None:
    process = start(model, output, "--quiet", *extra)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def lines(output: Path) -> list[dict[str, object]]:
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if not key.startswith("seconds/")} for row in rows]


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    for _ in range(600):
        if path.exists() or process.poll() is not None:
            return
        time.sleep(0.05)


def assert_same(whole: Path, cut: Path) -> None:
    assert lines(cut) == lines(whole)
    assert read_rungs(cut / "ladder.json") == read_rungs(whole / "ladder.json")
    for rung in read_rungs(whole / "ladder.json"):
        for part in (f"{rung.path}/model.safetensors", rung.samples):
            assert (cut / part).read_bytes() == (whole / part).read_bytes(), part
    last = sorted(p.name for p in (whole / "state").iterdir())[-1]
    a, b = (load_file(run / "state" / last / "optimizer.safetensors") for run in (whole, cut))
    assert a.keys() == b.keys()
    assert all((a[key] == b[key]).all() for key in a)
    strays = [p for p in cut.rglob("*") if p.name.startswith(".") and p.name != ".lock"]
    assert not strays


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed(model_directory: Path, tmp_path: Path) -> None:
    finish(model_directory, tmp_path / "whole")
    seed = random.randrange(1000)
    print("kill seed", seed)
    moments = random.Random(seed)
    process = start(model_directory, tmp_path / "cut", "--quiet")
    for _ in range(4):
        wait_for(tmp_path / "cut" / "run.json", process)
        time.sleep(moments.uniform(0.0, 2.5))
        process.kill()
        process.communicate()
        process = start(model_directory, tmp_path / "cut", "--quiet", "--resume")
        time.sleep(3.0)  # Python's own start
    process.communicate(timeout=300)
    if process.returncode != 0:
        finish(model_directory, tmp_path / "cut", "--resume")
    assert_same(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_says_how_to_go_on(model_directory: Path, tmp_path: Path, sent: signal.Signals) -> None:
    process = start(model_directory, tmp_path / "run", "--quiet")
    wait_for(tmp_path / "run" / "metrics.jsonl", process)
    process.send_signal(sent)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip().splitlines()[-1].startswith("rlhf: stopped; continue with the same command and --resume")
    assert "Traceback" not in errors
    finish(model_directory, tmp_path / "run", "--resume")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "finished"


def test_a_signal_while_a_broken_run_closes_says_how_to_go_on(
    model_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a launcher sends the survivors of a killed process may come while they are closing already.
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("gloo: Connection closed by peer")

    def signalled(_: RunDirectory) -> None:
        signal.raise_signal(signal.SIGINT)

    config = PPOConfig(output_dir=str(tmp_path / "run"), quiet=True)
    trainer = PPOTrainer(str(model_directory), full_stop, config)
    monkeypatch.setattr(trainer, "begin", broken)
    monkeypatch.setattr(RunDirectory, "close", signalled)
    with pytest.raises(KeyboardInterrupt, match="continue with the same command and --resume"):
        trainer.train()


def test_a_signal_while_the_end_is_told_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = InputError("a process of this run", got="the end of rank 1", expected="2 processes", fix="look")

    def signalled(_: Exception) -> InputError:
        signal.raise_signal(signal.SIGTERM)
        return lost

    def broken(_: list[str]) -> None:
        raise RuntimeError("gloo: Connection closed by peer")

    monkeypatch.setattr(cli, "peer_lost", signalled)
    assert cli.run(broken, []) == 2
    assert capsys.readouterr().err == f"rlhf: {lost}\n"


def test_the_launchers_signal_names_the_process_that_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may be here before a collective notices; of a run that goes on without loss it is a plain stop."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(cli, "first_to_tell", lambda: True)
    ended: list[int] = [1]
    monkeypatch.setattr(siblings, "ended_ranks", lambda: ended)

    def stopped(_: list[str]) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("continue with the same command and --resume (run)") from None

    assert cli.run(stopped, []) == 2
    assert capsys.readouterr().err.startswith(
        "rlhf: a process of this run: got the end of rank 1; expected 2 processes"
    )
    ended.clear()
    assert cli.run(stopped, []) == 130
    assert "rlhf: stopped; continue with the same command and --resume (run)" in capsys.readouterr().err
