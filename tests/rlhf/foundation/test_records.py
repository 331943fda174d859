"""Raters' names: what is refused where they enter, and what counts as one name."""

from __future__ import annotations

import pytest

from rlhf.foundation.errors import InputError
from rlhf.foundation.records import Comparison, Label, rater_name


@pytest.mark.parametrize("name", ["", " \u00a0", "a\x1b[31m", "ana\n", "a\u2028b", "\ud800", "x" * 201, 5, None])
def test_no_name_a_control_character_or_too_long_is_refused(name: object) -> None:
    for make in (lambda: Label("u", "", "t", "positive", name), lambda: Comparison("u", "", "a", "b", name)):  # type: ignore[arg-type]
        with pytest.raises(InputError, match=r"field 'annotator'.*1 to 200 characters on one line") as caught:
            make()
        assert len(str(caught.value)) < 250
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["x" * 200, "José Núñez", "علی\u200cرضا", "Ana ", "山田 太郎"])
def test_people_may_be_called_anything(name: str) -> None:
    assert Label("u", "", "t", "positive", name).annotator == name  # kept as given; one name is a matter of counting


def test_one_name() -> None:
    assert rater_name(" Ana\u00a0") == "Ana"
    assert rater_name("Jose\u0301") == rater_name("José")  # NFD and NFC
    assert rater_name("ana") != rater_name("Ana")  # two people may differ by case: told, never merged
