"""A real Label Studio for the session, started from a migrated data directory that is made once and kept; a browser."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Page

from labeling import server
from labeling.folder import Folder
from labeling.studio import Studio
from tests.conftest import need_real
from tests.labeling.browser import chromium_browser

RATERS = ("ana", "ben", "eva")


@dataclass(frozen=True)
class Live:
    """The running server of the session."""

    directory: Path
    url: str
    accounts: dict[str, server.Account]

    def connect(self, rater: str = "", *, url: str = "", timeout: float = 60.0) -> Studio:
        """A connection as a rater, or as the admin; `url` for a proxy in front."""
        return Studio(url or self.url, self.accounts[rater or "admin"].token, timeout=timeout)


@pytest.fixture(scope="session")
def label_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    venv = server.cache_directory()
    need_real(server.is_installed(venv), "Label Studio (rlhf label serve --install_only)")
    template = venv / "migrated"
    if not (template / "accounts_made.json").exists():
        with server.locked(venv / ".migrating", "another test session is making the migrated data directory"):
            server.start(template, venv=venv, raters=RATERS, say=print)
            server.stop(template)
    directory = tmp_path_factory.mktemp("label-studio") / "server"
    shutil.copytree(template, directory)
    (directory / "last_port.json").unlink(missing_ok=True)
    running = server.start(directory, venv=venv, say=print)
    yield Live(directory, running.url, server.read_accounts(directory))
    server.stop(directory)


@pytest.fixture(scope="session")
def studio(label_studio: Live) -> Studio:
    """The admin's connection."""
    return label_studio.connect()


@pytest.fixture
def title() -> str:
    """A project title that no other test has."""
    return f"Test {uuid.uuid4().hex[:12]}"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """An empty labelling folder."""
    path = tmp_path / "folder"
    path.mkdir()
    return Folder(path)


@pytest.fixture
def page(chromium: str) -> Iterator[Page]:
    """A tab without a network, in which no script may fail."""
    with chromium_browser(chromium) as browser:
        context = browser.new_context(accept_downloads=True, viewport={"width": 1000, "height": 640})
        context.set_offline(True)
        opened = context.new_page()
        problems: list[str] = []
        opened.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        opened.on("pageerror", lambda error: problems.append(str(error)))
        yield opened
        assert not problems
        context.close()
