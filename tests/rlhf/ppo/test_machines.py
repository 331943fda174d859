"""Two machines, each with its own `accelerate launch`, here both on the loopback: the run of one machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from .conftest import without
from .test_processes import OPTIONS, ROOT, launch

FEW = ("--max_iterations", "2", "--iteration_batch_size", "64", "--max_iteration_batch_size", "64")


def on_machine(rank: int, port: int, model: Path, output: Path) -> subprocess.Popen[str]:
    words = ["--config_file", str(ROOT / "accelerate_config.yaml"), "--num_machines", "2", "--num_processes", "2"]
    words += ["--machine_rank", str(rank), "--main_process_ip", "127.0.0.1", "--main_process_port", str(port)]
    run = ["--model_name_or_path", str(model), "--reward_func", "full_stop", "--output_dir", str(output)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT)}
    start = [sys.executable, "-m", "accelerate.commands.launch", *words, "-m", "rlhf.ppo"]
    command = [*start, *run, *without(OPTIONS, FEW), *FEW]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.long
def test_two_machines_are_the_run_of_one(model_directory: Path, tmp_path: Path) -> None:
    port, two = free_port(), tmp_path / "two"
    machines = [on_machine(rank, port, model_directory, two) for rank in (0, 1)]
    said = [machine.communicate(timeout=540)[1] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], said
    assert json.loads((two / "run.json").read_text())["world_size"] == 2
    one = tmp_path / "one"
    done = launch(model_directory, one, processes=2, reward="full_stop", extra=FEW)
    assert done.returncode == 0, done.stderr
    states = [load_file(max((run / "state").glob("[0-9]*")) / "parameters.safetensors") for run in (one, two)]
    assert states[0].keys() == states[1].keys()
    assert all(bool((states[0][name] == states[1][name]).all()) for name in states[0])
    rows = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (one, two)]
    assert [row["kl_per_completion"] for row in rows[0]] == [row["kl_per_completion"] for row in rows[1]]
    assert rows[0][-1]["kl_per_completion"] > 0
