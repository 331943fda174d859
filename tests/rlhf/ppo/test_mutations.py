"""Faults planted in the equations: each is caught by a test (benchmarks/mutations.py prints which)."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from operator import attrgetter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def test_every_fault_can_be_planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list keeps up with the sources, without the minutes that trying it takes."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    mutations = importlib.import_module("mutations")
    for suite in mutations.SUITES.values():
        for module, faults in suite.faults.items():
            for fault in faults:
                mutations.both(inspect.unwrap(attrgetter(fault.function)(importlib.import_module(module))), fault)


@pytest.mark.long
@pytest.mark.slow
def test_every_planted_fault_is_caught() -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/mutations.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SURVIVED" not in done.stdout
    assert len(done.stdout.splitlines()) >= 41  # 40 faults and the last line
