"""Faults planted in the equations: each is caught by a test (benchmarks/mutations.py prints which)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.long
@pytest.mark.slow
def test_every_planted_fault_is_caught() -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/mutations.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SURVIVED" not in done.stdout
    assert len(done.stdout.splitlines()) >= 41  # 40 faults and the last line
