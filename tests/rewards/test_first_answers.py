"""`rlhf reward --answer first`: what raters said before they saw a reward model's reasons."""

from __future__ import annotations

from pathlib import Path

import pytest

from rewards.steps.reward_data import DataOptions, load_reward_data
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import Comparison, Label, write_records


def test_labels_before_and_after(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    write_records(
        path, [Label("a", "", "x", "positive", "ana", first="negative"), Label("b", "", "y", "neutral", "ana")]
    )
    after = load_reward_data(DataOptions(labels=str(path)))
    before = load_reward_data(DataOptions(labels=str(path), answer="first"))
    assert [label.label for label in after.labels] == ["positive", "neutral"]
    assert [label.label for label in before.labels] == ["negative", "neutral"]
    assert before.sha256 != after.sha256


def test_comparisons_before_and_after(tmp_path: Path) -> None:
    """Of texts x and y: kept x; first y, then x; first x, then a tie; first a tie, then x; no reasons shown."""
    firsts = [("chosen", False), ("rejected", False), ("chosen", True), ("tie", False), (None, False)]
    rows = [
        Comparison(f"p{i}", f"{i}", "x", "y", "ana", tie=tie, first=first)  # type: ignore[arg-type]
        for i, (first, tie) in enumerate(firsts)
    ]
    path = tmp_path / "comparisons.jsonl"
    write_records(path, rows)

    def x_wins(options: DataOptions) -> list[float]:
        return [one.target if one.first == "x" else 1 - one.target for one in load_reward_data(options).answers]

    assert x_wins(DataOptions(comparisons=str(path))) == [1, 1, 0.5, 1, 1]
    assert x_wins(DataOptions(comparisons=str(path), answer="first")) == [1, 0, 1, 0.5, 1]
    assert x_wins(DataOptions(comparisons=rows, answer="first")) == [1, 0, 1, 0.5, 1]


def test_a_data_set_has_no_first_answers() -> None:
    with pytest.raises(InputError, match="--answer: got it without --labels or --comparisons"):
        DataOptions(dataset_name="x", answer="first")
