"""Commands that can be made to fail, every deed done once, and the tally at the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import need_real

from . import faults
from .deeds import Deeds
from .faults import COMPILER, Commands
from .tally import TALLY, Tally


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """Commands below faults.c."""
    need_real(COMPILER is not None, "a C compiler (apt-get install gcc libc6-dev)")
    with faults.commands(tmp_path_factory.mktemp("faults")) as running:
        yield running


@pytest.fixture(scope="session")
def deeds(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Deeds:
    """Every deed, done once."""
    return Deeds(commands, tmp_path_factory.mktemp("deeds"))


@pytest.fixture
def tally() -> Tally:
    """The session's tally."""
    return TALLY


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show the tally."""
    if TALLY.rows:
        terminalreporter.section("campaign")
        terminalreporter.write_line("\n".join(TALLY.lines()))
