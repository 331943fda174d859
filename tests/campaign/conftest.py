"""What the campaign works with: commands that can be made to fail, every deed done once, bad material, a tally."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import need_real

from . import faults
from .deeds import Deeds
from .faults import COMPILER, Commands
from .material import make_material
from .tally import TALLY, Tally
from .told_in_one_line import Place


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


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good material of every kind; read only."""
    folder = tmp_path_factory.mktemp("material")
    make_material(folder)
    return folder


@pytest.fixture
def place(tmp_path: Path, material: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Place:
    """A working directory with copies of the material."""
    made = Place(tmp_path / "work", material, capfd)
    made.fill()
    monkeypatch.chdir(made.folder)
    return made


@pytest.fixture
def bare(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Place:
    """An empty working directory: a refused option has not looked at any file."""
    monkeypatch.chdir(tmp_path)
    return Place(tmp_path, tmp_path, capfd)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show the tally."""
    if TALLY.rows:
        terminalreporter.section("campaign")
        terminalreporter.write_line("\n".join(TALLY.lines()))
