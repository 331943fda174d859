"""An iteration costs no more than the shortest honest loop; ratios of one machine's CPU-seconds, never seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_an_iteration_costs_no_more_than_a_loop_by_hand(tmp_path: Path) -> None:
    """0.65 to 0.8 of it on two shared cores, exact KL and all; at 1.1 something has become slow."""
    result = measured(tmp_path / "once.json", rounds=1)
    if result["contenders"]["ours"]["ratio_to_plain_loop"] >= 1.1:  # a noisy minute, or slow: three rounds decide
        result = measured(tmp_path / "again.json", rounds=3)
    assert result["contenders"]["ours"]["ratio_to_plain_loop"] < 1.1, result
    assert result["parameters"] > 1e6


def measured(output: Path, *, rounds: int) -> dict[str, Any]:
    sizes = ["--completions", "256", "--tokens", "24", "--iterations", "3", "--rounds", str(rounds)]
    command = [sys.executable, str(ROOT / "benchmarks" / "speed.py"), "--contenders", "ours", "plain_loop", *sizes]
    done = subprocess.run([*command, "--output", str(output)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))["1M"]
    return result
