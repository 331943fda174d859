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
from rlhf.foundation.records import LABELS, Label, LabelName


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
    # Every label the same, x: (1 + 1/2 + 1) / 3 = 5/6; y: (1 + 0 + 1/2) / 3 = 1/2.
    assert pool_labels(rows, "share").texts == [
        LabelledText("", "x", pytest.approx(5 / 6), 3, "positive"),
        LabelledText("", "y", 0.5, 3, "neutral"),
    ]


def test_a_single_rater_is_never_weighed() -> None:
    rows = [
        label("1", "x", "positive"),
        label("2", "y", "neutral"),
        label("3", "x", "negative"),
        label("4", "z", "negative"),
    ]
    # anna judged x twice, under two uids: both answers count, (1 + 0) / 2.
    found = pool_labels(rows)
    assert [(text.completion, text.target, text.n_labels) for text in found.texts] == [
        ("x", 0.5, 2),
        ("y", 0.5, 1),
        ("z", 0.0, 1),
    ]
    assert found.lines() == []


def three_raters(n: int = 60) -> list[Label]:
    """ana and ben name the truth (ben errs on every tenth text), coin goes round the labels whatever the text says."""
    truth = [LABELS[i % 3] for i in range(n)]
    rows = []
    for i, name in enumerate(truth):
        rows += [label(f"u{i}", f"text {i}", name, "ana"), label(f"u{i}", f"text {i}", LABELS[i // 3 % 3], "coin")]
        rows.append(label(f"u{i}", f"text {i}", LABELS[(i + 1) % 3] if i % 10 == 9 else name, "ben"))
    return rows


def test_a_rater_at_chance_is_left_out_of_the_targets_as_of_the_status() -> None:
    found = pool_labels(three_raters())
    assert list(found.pooled.left_out) == ["coin"]
    assert {text.n_labels for text in found.texts} == {2}
    # ana and ben agree that text 0 is positive, 2 negative, and coin says positive of both: pooled with coin the
    # targets would be 1 and 1/3, the wrong values that shares give.
    assert found.texts[0].target > 0.99
    assert found.texts[2].target < 0.01
    assert pool_labels(three_raters(), "share").texts[2].target == pytest.approx(1 / 3)
    assert found.texts[1].verdict == "neutral"  # though its pooled target is not exactly one half
    summary = label_summary(found)
    assert summary["pooling"]["left_out"]["coin"]["why"] == "no better than chance"
    # Two raters who count agree on 54 of 60: nothing tells which of them errs.
    weights = [rater["weight_nats"] for rater in summary["pooling"]["raters"].values()]
    assert weights == [pytest.approx(weights[1]), pytest.approx(weights[0])]
    assert 2.0 < weights[0] < 5.0
    told = "\n".join(found.lines())
    assert "left out, no better than chance: coin (kappa 0.00 ± 0.09 on 60 tasks" in told
    assert "raters weighed (Dawid-Skene): ana right on about" in told


def test_nobody_can_tell_two_raters_at_chance_apart() -> None:
    rows = [row for row in three_raters() if row.annotator != "ben"]
    with pytest.raises(InputError, match=r"ana .*coin .*expected raters who agree.*--pooling share") as caught:
        pool_labels(rows, place="labels.jsonl")
    assert str(caught.value).startswith("labels.jsonl: ")
    assert len(pool_labels(rows, "share").texts) == 60


def test_doubled_rows_count_once_and_twins_are_one_text() -> None:
    rows = [
        label("1", "x", "negative"),
        label("1", "x", "positive"),  # the same row again, changed: the later one counts
        label("2", "café", "positive"),
        label("3", "cafe\u0301 ", "positive", "bob"),  # another form of the same letters, and a space
    ]
    found = pool_labels(rows)
    assert [(text.completion, text.n_labels) for text in found.texts] == [("x", 1), ("café", 2)]
    assert found.texts[0].target == 1.0
    summary = label_summary(found)
    assert (summary["rows"], summary["counted"], summary["texts"]) == (4, 3, 2)
    assert (summary["doubled_rows"], summary["doubled_rows_changed"], summary["twin_texts"]) == (1, 1, 1)


def test_prompt_and_completion_are_one_text() -> None:
    rows = [Label("1", "ab", "c", "positive", "anna"), Label("2", "a", "bc", "negative", "anna")]
    (pooled,) = pool_labels(rows, "share").texts
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
    texts = pool_labels([label(str(i), f"text {i}", name) for i, name in enumerate(names)]).texts
    with pytest.raises(InputError, match=message) as caught:
        require_both_classes(texts, "labels.jsonl")
    assert "\n" not in str(caught.value)
    assert f"{len(names)} labels" in str(caught.value)


def test_twenty_labels_of_both_classes_pass() -> None:
    names: list[LabelName] = ["positive"] * 10 + ["negative"] * 10
    require_both_classes(pool_labels([label(str(i), f"t{i}", name) for i, name in enumerate(names)]).texts, "x")


def test_summary_counts_contradictions_and_duplicates() -> None:
    rows = [
        label("1", "x", "positive", "anna"),
        label("1", "x", "negative", "bob"),
        label("2", "y", "positive", "anna"),
        label("3", "y", "neutral", "anna"),  # anna judges y twice; positive and neutral do not contradict
    ]
    summary = label_summary(pool_labels(rows))
    assert summary["rows"] == 4
    assert summary["texts"] == 2
    assert summary["annotators"] == 2
    assert summary["contradicted_texts"] == 1
    assert summary["judged_again"] == 1
    assert summary["by_label"] == {"positive": 2, "negative": 1, "neutral": 1}


def test_hash_depends_on_what_was_said_not_on_order_or_time() -> None:
    one, two = label("1", "x", "positive"), label("2", "y", "negative")
    later = Label("9", "", "x", "positive", "anna", created_at="2030-01-01T00:00:00Z", lead_time=3.0)
    assert hash_labels([one, two]) == hash_labels([two, later])
    assert hash_labels([one, two]) != hash_labels([one, label("2", "y", "neutral")])
    assert hash_labels([one, two]) != hash_labels([one, label("2", "y", "negative", "bob")])
