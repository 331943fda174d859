"""benchmarks/gpu.py runs on a CPU with a tiny model: what a GPU's owner will run is not broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_both_arms_give_their_figures(model_directory: Path, tmp_path: Path) -> None:
    words = ["--completions", "16", "--minibatch", "8", "--tokens", "8", "--iterations", "2"]
    output = tmp_path / "gpu.json"
    command = [sys.executable, str(ROOT / "benchmarks/gpu.py"), "--model_name_or_path", str(model_directory), *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--output_path", str(output)], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(output.read_text())
    assert found["device"] == "CPU" or found["device"]
    for arm in ("ours", "trl"):
        assert found[arm]["seconds"] > 0
        assert 0 < found[arm]["mean_length"] <= 8
        tokens = 16 * found[arm]["mean_length"] / found[arm]["seconds"]
        assert found[arm]["tokens_per_second"] == pytest.approx(tokens, rel=0.02)
        assert found[arm]["peak_gib"] > 0
    assert set(found["ours"]["phases"]) >= {"seconds/generate", "seconds/reference", "seconds/update"}
