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
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rlhf.cli import main
from rlhf.ppo.ladder import read_rungs

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


# Runs the command, but the process kills itself when it calls MODULE:FUNCTION for the COUNTth time.
DRIVER = """
import importlib, os, signal, sys
from rlhf import environment
environment.prepare()
place, count, *words = sys.argv[1:]
module, name = place.split(":")
module = importlib.import_module(module)
real, calls = getattr(module, name), 0
def deadly(*arguments, **options):
    global calls
    calls += 1
    if calls == int(count):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **options)
setattr(module, name, deadly)
from rlhf.ppo.__main__ import main
main(words)
"""
SMALL = shlex.split(
    "--reward_func full_stop --iteration_batch_size 64 --max_iteration_batch_size 64 --minibatch_size 32 "
    "--max_completion_length 8 --learning_rate 1e-3 --num_eval_samples 16 --normalization_samples 64 "
    "--max_iterations 3 --ladder_step 0.1 --critic shared --beta 0.1 --kl_target 1 --quiet"
)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """The same arithmetic here as in the processes that are killed."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "count"),
    [
        ("rlhf.foundation.files:current_umask", 1),  # the first run.json written, not yet in place
        ("rlhf.ppo.rollout:generate", 5),  # in the second rollout's generation
        ("rlhf.ppo.update:clipped_loss", 4),  # in the second rollout's second update
        ("rlhf.foundation.model_directory:_swap", 2),  # a checkpoint written, not yet in place
        ("rlhf.ppo.ladder:write_json", 3),  # a checkpoint in place that ladder.json does not name yet
        ("rlhf.ppo.state:save_file", 4),  # half a state
        ("rlhf.ppo.state:write_json", 2),  # a state written, not yet in place
        ("rlhf.ppo.state:fsync_directory", 2),  # two states in place, the older one to be removed
    ],
)
def test_killed_at_a_chosen_place_and_resumed(
    model_directory: Path, tmp_path: Path, one_thread: None, place: str, count: int
) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def words(output: str, *extra: str) -> list[str]:
        return ["--model_name_or_path", str(model_directory), "--output_dir", str(tmp_path / output), *SMALL, *extra]

    killed = subprocess.run(
        [sys.executable, "-c", DRIVER, place, str(count), *words("cut")],
        env=environment,
        capture_output=True,
        timeout=300,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (tmp_path / "cut" / "metrics.jsonl").exists() == (tmp_path / "cut" / "run.json").exists()
    assert (tmp_path / "cut" / "run.json").exists() == (place != "rlhf.foundation.files:current_umask")
    assert main(["ppo", *words("cut", "--resume")]) == 0
    assert main(["ppo", *words("whole")]) == 0
    assert_same(tmp_path / "whole", tmp_path / "cut")
    assert sorted(p.name for p in (tmp_path / "cut" / "state").iterdir()) == ["000002", "000003"]
