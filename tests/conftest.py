"""Shared fixtures: everything runs offline; real parts that are missing are counted, or fail when required."""

from __future__ import annotations

import os
import signal
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
if "PYTEST_XDIST_WORKER" in os.environ:  # a worker a core: more threads would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from rlhf import environment

environment.prepare()

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # begun in the background by a shell; children would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED_DATA = Path(os.environ.get("RLHF_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
REQUIRE_REAL = os.environ.get("RLHF_REQUIRE_REAL") == "1"


def need_real(present: bool, what: str) -> None:
    """Skip a test whose real part is missing; fail under RLHF_REQUIRE_REAL=1."""
    if present:
        return
    if REQUIRE_REAL:
        pytest.fail(f"RLHF_REQUIRE_REAL=1, but {what} is missing")
    pytest.skip(f"{what} is missing")


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of Debian's Chromium."""
    path = Path("/usr/bin/chromium")
    need_real(path.exists(), "Chromium (/usr/bin/chromium; apt-get install chromium)")
    return str(path)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real text and labels for tests; said loudly when absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"REAL DATA ABSENT: {SHARED_DATA} (set RLHF_SHARED_DATA)")
    return SHARED_DATA
