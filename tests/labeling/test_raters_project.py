"""Whose answers a rater's own project holds, and what becomes of those that others left there."""

from __future__ import annotations

from typing import cast

import pytest

from labeling.annotations import Annotation
from labeling.fetching import of_rater
from labeling.folder import Project
from labeling.studio import Studio


class Account:
    """A connection of which only the account is asked."""

    def __init__(self, email: str) -> None:
        self.email = email

    def whoami(self) -> str:
        return self.email


def answer(by: str) -> Annotation:
    return Annotation("u0", by, "labelled", "Positive", "2026-01-01T00:00:00Z", 1, 1.0, "manual", ("Positive",))


@pytest.mark.parametrize(
    ("account", "by", "expected"),
    [
        # the local server: a rater's own account, whose name is the rater's; an admin looked in
        ("ana@rater.example", ["ana", "admin"], [("ana", False), ("admin", True)]),
        ("ana@rater.example", ["ana@rater.example", "ana@rater.example"], [("ana", False), ("ana", False)]),
        ("ana@rater.example", ["admin"], [("admin", True)]),
        # a server with one account for the pushing; raters log in as themselves
        ("boss@one.test", ["ana@one.test", "boss"], [("ana", False), ("boss", True)]),
        ("boss@one.test", ["a.smith", "boss"], [("ana", False), ("boss", True)]),
        ("boss@one.test", ["boss", "boss"], [("ana", False), ("ana", False)]),
        ("boss@one.test", ["kim", "lee", "boss"], [("kim", False), ("lee", False), ("boss", False)]),
    ],
)
def test_who_is_the_rater(account: str, by: list[str], expected: list[tuple[str, bool]]) -> None:
    found = of_rater([answer(name) for name in by], Project("ana", "", 1, "t (ana)"), cast(Studio, Account(account)))
    assert [(one.annotator, one.ground_truth) for one in found] == expected


def test_a_project_for_all_keeps_everyones_name() -> None:
    answers = [answer("ana"), answer("admin")]
    assert of_rater(answers, Project("", "", 1, "t"), cast(Studio, Account("admin@x.test"))) == answers
