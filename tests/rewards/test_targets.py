"""Pooling, splits by text, and what makes labels unusable; every expected value is counted by hand."""

from __future__ import annotations

import pytest

from rewards.targets import (
    LabelledText,
    fold_of_text,
    hash_labels,
    label_summary,
    pool_labels,
    require_both_classes,
)
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import Label, LabelName


def label(uid: str, text: str, name: LabelName, annotator: str = "anna") -> Label:
    return Label(uid, "", text, name, annotator)


def test_labels_of_one_text_are_pooled_to_their_share() -> None:
    rows = [
        label("1", "x", "positive", "anna"),
        label("1", "x", "neutral", "bob"),
        label("1", "x", "positive", "cleo"),
        label("2", "y", "positive", "anna"),
        label("2", "y", "negative", "bob"),
        label("3", "y", "neutral", "anna"),  # the text y again, sampled a second time
    ]
    # x: (1 + 1/2 + 1) / 3 = 5/6; y: (1 + 0 + 1/2) / 3 = 1/2.
    assert pool_labels(rows) == [LabelledText("", "x", pytest.approx(5 / 6), 3), LabelledText("", "y", 0.5, 3)]
    assert [text.verdict for text in pool_labels(rows)] == ["positive", "neutral"]


def test_prompt_and_completion_are_one_text() -> None:
    rows = [Label("1", "ab", "c", "positive", "anna"), Label("2", "a", "bc", "negative", "anna")]
    (pooled,) = pool_labels(rows)
    assert pooled.target == 0.5


def test_one_uid_with_two_texts_is_refused() -> None:
    with pytest.raises(InputError, match="uid 1: got two different texts"):
        pool_labels([label("1", "x", "positive"), label("1", "y", "positive")])


def test_folds_deal_out_texts_and_balance_verdicts() -> None:
    texts = [LabelledText("", f"t{i}", target, 1) for i, target in enumerate([1.0] * 10 + [0.0] * 10 + [0.5] * 5)]
    folds = fold_of_text(texts, 5, seed=1)
    for fold in range(5):
        members = [text.target for text, f in zip(texts, folds, strict=True) if f == fold]
        assert (members.count(1.0), members.count(0.0), members.count(0.5)) == (2, 2, 1)
    assert folds == fold_of_text(texts, 5, seed=1)
    assert folds != fold_of_text(texts, 5, seed=2)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["positive"] * 5 + ["negative"] * 5, "at least 20 labels"),
        (["positive"] * 30, "0 are negative"),
        (["negative"] * 15 + ["neutral"] * 15, "0 are positive"),
        (["neutral"] * 30, "0 are positive"),
        (["positive"] * 29 + ["negative"], "1 are negative"),
    ],
)
def test_unusable_labels_are_refused_with_their_counts(names: list[LabelName], message: str) -> None:
    texts = pool_labels([label(str(i), f"text {i}", name) for i, name in enumerate(names)])
    with pytest.raises(InputError, match=message) as caught:
        require_both_classes(texts, "labels.jsonl")
    assert "\n" not in str(caught.value)
    assert f"{len(names)} labels" in str(caught.value)


def test_twenty_labels_of_both_classes_pass() -> None:
    names: list[LabelName] = ["positive"] * 10 + ["negative"] * 10
    require_both_classes(pool_labels([label(str(i), f"t{i}", name) for i, name in enumerate(names)]), "x")


def test_summary_counts_contradictions_and_duplicates() -> None:
    rows = [
        label("1", "x", "positive", "anna"),
        label("1", "x", "negative", "bob"),
        label("2", "y", "positive", "anna"),
        label("3", "y", "neutral", "anna"),  # anna judges y twice; positive and neutral do not contradict
    ]
    summary = label_summary(rows)
    assert summary["rows"] == 4
    assert summary["texts"] == 2
    assert summary["annotators"] == 2
    assert summary["contradicted_texts"] == 1
    assert summary["duplicate_rows"] == 1
    assert summary["by_label"] == {"positive": 2, "negative": 1, "neutral": 1}


def test_hash_depends_on_what_was_said_not_on_order_or_time() -> None:
    one, two = label("1", "x", "positive"), label("2", "y", "negative")
    later = Label("9", "", "x", "positive", "anna", created_at="2030-01-01T00:00:00Z", lead_time=3.0)
    assert hash_labels([one, two]) == hash_labels([two, later])
    assert hash_labels([one, two]) != hash_labels([one, label("2", "y", "neutral")])
    assert hash_labels([one, two]) != hash_labels([one, label("2", "y", "negative", "bob")])
