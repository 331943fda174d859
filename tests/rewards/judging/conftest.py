"""A key in the environment, a cache of the test's own, and a judge that counts words of joy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rewards.judging.server import KEY, Asked, JudgeServer, serving


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's own environment is read or written."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def joys(asked: Asked) -> str:
    """1 point, and one more for each joy in the completion, up to 10."""
    completion = asked.question.partition("<completion>")[2].partition("</completion>")[0]
    return f"Score: {min(10, 1 + completion.split().count('joy'))}"


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    """It never fails; a test may give it another `reply` or `fault`."""
    with serving(joys) as one:
        yield one
