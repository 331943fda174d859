"""Reading comparisons and TRL's data sets, and folds that share no text; counted by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rewards.preferences import (
    Preference,
    fold_of_preference,
    read_preferences,
    require_comparisons,
)
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import Comparison


def comparison(chosen: str, rejected: str, *, tie: bool = False, annotator: str = "anna") -> Comparison:
    return Comparison(chosen + rejected, "p: ", chosen, rejected, annotator, tie=tie)


def test_trl_columns_plain_and_conversational(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "hi"}]
    good, bad = [{"role": "assistant", "content": "joy"}], [{"role": "assistant", "content": "woe"}]
    rows = [
        {"prompt": "a", "chosen": "joy", "rejected": "woe", "margin": 0.5},
        {"chosen": "\n\nHuman: hi\n\nAssistant: joy", "rejected": "\n\nHuman: hi\n\nAssistant: woe"},
        {"prompt": turns, "chosen": good, "rejected": bad},
        {"chosen": turns + good, "rejected": turns + bad},
        {"prompt": "a", "chosen": "joy", "rejected": "woe", "tie": True},  # the first pair again, now a tie
    ]
    path = tmp_path / "preferences.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_preferences(path)
    assert len(found) == 5
    joy = 1.0 if found[0].first == "joy" else 0.0
    assert (found[0].target, found[0].margin) == (joy, joy - 0.5)  # signed towards the first text
    assert (found[4].target, found[4].margin) == (0.5, 0.0)
    assert found[1].prompt == "\n\nHuman: hi\n\nAssistant:"  # what both share
    assert {found[1].first, found[1].second} == {" joy", " woe"}
    # With the prompt beside the answers or in them: the same pair.
    assert found[2] == found[3]
    assert found[2].prompt == turns
    assert {found[2].first, found[2].second} == {"joy", "woe"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "a", "chosen": "x"}, "field 'rejected': got nothing"),
        ({"prompt": 3, "chosen": "x", "rejected": "y"}, "field 'prompt': got a int"),
        ({"chosen": "x", "rejected": [{"role": "user", "content": "y"}]}, "beside a conversation"),
        ({"chosen": [{"text": "x"}], "rejected": "y"}, "field 'chosen'"),
        ({"chosen": "x", "rejected": "y", "margin": "much"}, "field 'margin'"),
    ],
)
def test_unusable_rows_are_named(tmp_path: Path, row: dict[str, object], message: str) -> None:
    path = tmp_path / "preferences.jsonl"
    path.write_text(json.dumps({"chosen": "x", "rejected": "y"}) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(InputError, match=message) as caught:
        read_preferences(path)
    assert "line 2" in str(caught.value)


def test_too_few_and_only_ties() -> None:
    with pytest.raises(InputError, match="got 0 pairs with a preference and 30 ties"):
        require_comparisons([Preference("", f"a{i}", f"b{i}", 0.5, 1) for i in range(30)], "x.jsonl")
    require_comparisons([Preference("", f"a{i}", f"b{i}", 1.0, 1) for i in range(20)], "x.jsonl")


def test_folds_share_neither_texts_nor_prompts() -> None:
    # 40 prompts with 3 completions each, all three compared with each other.
    pairs = [
        Preference(f"p{i}", f"c{i}{a}", f"c{i}{b}", 1.0, 1) for i in range(40) for a, b in ((0, 1), (1, 2), (0, 2))
    ]
    folds = fold_of_preference(pairs, 4, seed=0)
    assert sorted(folds.count(f) for f in range(4)) == [30, 30, 30, 30]
    for i in range(40):
        assert len({fold for pair, fold in zip(pairs, folds, strict=True) if pair.prompt == f"p{i}"}) == 1


def test_one_prompt_for_all_still_divides() -> None:
    pairs = [Preference("", f"a{i}", f"b{i}", 1.0, 1) for i in range(40)]
    folds = fold_of_preference(pairs, 4, seed=0)
    assert sorted(folds.count(f) for f in range(4)) == [10, 10, 10, 10]
