"""What stands before the first import of torch, what is freed and kept, and which warnings never reach a terminal."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import pytest

from rlhf import environment

OWN = {"MALLOC_TRIM_THRESHOLD_": "100000"}


def test_libraries_that_warn_of_each_other_are_silent_and_others_are_not() -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        environment.prepare()
        for module in ("transformers.modeling_utils", "peft.tuners", "someone.else"):
            warnings.warn_explicit("old", FutureWarning, f"{module}.py", 1, module=module)
        warnings.warn_explicit("a fault", UserWarning, "x.py", 1, module="transformers.modeling_utils")
    assert [(str(one.message), one.category) for one in told] == [("old", FutureWarning), ("a fault", UserWarning)]


@pytest.mark.parametrize(("given", "looks"), [({}, "1000"), ({"GOMP_SPINCOUNT": "0"}, "0")])
def test_threads_look_around_before_they_sleep_unless_the_user_decided(
    given: dict[str, str], looks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    environment.prepare()
    assert os.environ["GOMP_SPINCOUNT"] == looks


FREED = """
import re
import sys
from pathlib import Path

from rlhf import environment

if sys.argv[1] == "kept":
    environment.prepare()
import numpy as np  # after: its blocks come from the same heap


def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024


blocks = [np.ones(2**20) for _ in range(40)]  # 320 MiB in blocks of 8
del blocks
print(resident())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
@pytest.mark.parametrize(("how", "given", "kept"), [("kept", {}, True), ("not", {}, False), ("kept", OWN, False)])
def test_freed_memory_stays_for_the_next_tensor_unless_the_user_decided(
    how: str, given: dict[str, str], kept: bool
) -> None:
    """In MiB that stay with the process."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    found = subprocess.run(
        [sys.executable, "-c", FREED, how], env={**clean, **given}, check=True, capture_output=True, text=True
    )
    assert (float(found.stdout) > 250) == kept
