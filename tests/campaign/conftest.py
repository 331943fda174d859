"""The material once a session, and a place to work in for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.campaign.material import make_material
from tests.campaign.told_in_one_line import Place


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
