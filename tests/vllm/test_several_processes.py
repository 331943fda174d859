"""An engine in each of two processes, or over both: weights that are whole or cut reach it, and the run is the same."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.vllm.conftest import ROOT

pytestmark = pytest.mark.vllm
# DeepSpeed is not in constraints-vllm.txt: pip install --no-deps -r constraints-deepspeed.txt into this environment.
DEEPSPEED = pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is not installed here")


@pytest.fixture(scope="module")
def model_directory(save_model: Callable[..., Path]) -> Path:
    return save_model(tied=False)


def lines_of(command: Any, model: Path, output: Path, file: str, *words: Any) -> list[dict[str, Any]]:
    """The metrics of three iterations on two processes by a launch file."""
    given = command("--model_name_or_path", model, "--output_dir", output, "--use_vllm", *words)
    start = ["-m", "accelerate.commands.launch", "--config_file", str(ROOT / file), "--num_processes", "2"]
    start += ["--main_process_port", "0", "-m", "rlhf.ppo", *given[given.index("ppo") + 1 :]]
    told = {**os.environ, "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *start], env=told, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("accelerate_config.yaml", []),
        ("accelerate_config.yaml", ["--vllm_tensor_parallel_size", 2]),
        ("accelerate_fsdp2.yaml", []),
        pytest.param("accelerate_zero3.yaml", [], marks=DEEPSPEED),
    ],
    ids=["an engine each", "one over both", "FSDP2", "ZeRO-3"],
)
def test_each_engine_has_the_trained_weights(
    command: Any, model_directory: Path, tmp_path: Path, file: str, words: list[Any]
) -> None:
    more = ["--max_iterations", 3, "--learning_rate", 1e-3]
    lines = lines_of(command, model_directory, tmp_path / "run", file, *more, *words)
    gaps = [line["sampling/sampling_logp_difference/max"] for line in lines]
    kls = [line["kl_per_completion"] for line in lines]
    print(f"{file} {words}: largest difference {gaps} nats, KL {kls}")
    assert len(lines) == 4
    assert max(gaps) < 1e-4
    assert kls[0] == 0
    assert kls[-1] > 0.3  # stale weights would be off by more than 0.01 on average
    assert [line["doctor"] for line in lines] == [None] * 4
