"""Pooling: good raters outweigh bad ones, single labels keep their share, raters at chance are found."""

from __future__ import annotations

import random

import pytest

from labeling.by_rule import simulate_labels
from labeling.pooling import chance_raters, dawid_skene, pool, second_look
from rlhf.foundation.records import LABELS, Label, LabelName, Sample


def truth_of(n: int, seed: int) -> dict[str, LabelName]:
    rng = random.Random(seed)
    return {f"u{i}": rng.choice(LABELS) for i in range(n)}


def rated(truth: dict[str, LabelName], noise: dict[str, float], seed: int) -> list[Label]:
    samples = [Sample(uid, "", uid, "m") for uid in truth]
    return [
        row
        for name, share in noise.items()
        for row in simulate_labels(samples, lambda uid, _: truth[uid], annotator=name, noise=share, seed=seed)
    ]


def accuracy(verdicts: dict[str, str], truth: dict[str, LabelName]) -> float:
    return sum(verdicts[uid] == label for uid, label in truth.items()) / len(truth)


@pytest.mark.parametrize("seed", range(5))
def test_pooled_labels_beat_the_best_single_rater(seed: int) -> None:
    truth = truth_of(300, seed)
    labels = rated(truth, {"ana": 0.15, "ben": 0.15, "eva": 0.20}, seed)
    assert accuracy(pool(labels).verdicts, truth) > 0.85


@pytest.mark.parametrize("seed", range(5))
def test_one_good_rater_outweighs_two_bad_ones(seed: int) -> None:
    truth = truth_of(300, seed)
    labels = rated(truth, {"ana": 0.05, "ben": 0.30, "eva": 0.30}, seed)
    weighed, counted = (accuracy(pool(labels, method).verdicts, truth) for method in ("dawid_skene", "share"))  # type: ignore[arg-type]
    assert weighed > counted
    estimated = pool(labels).accuracy
    assert estimated["ana"] is not None
    assert estimated["ana"] == pytest.approx(0.95, abs=0.06)
    assert estimated["ben"] == pytest.approx(0.70, abs=0.06)


def test_a_single_label_keeps_its_share() -> None:
    labels = [Label("a", "", "a", "neutral", "ana"), Label("b", "", "b", "positive", "ana")]
    labels.append(Label("b", "", "b", "positive", "ben"))
    targets = pool(labels).targets
    assert targets["a"] == 0.5
    assert targets["b"] > 0.9
    assert pool(labels, "share").targets == {"a": 0.5, "b": 1.0}


def test_share_by_hand() -> None:
    labels = [Label("a", "", "a", name, who) for name, who in [("positive", "x"), ("neutral", "y"), ("negative", "z")]]  # type: ignore[arg-type]
    assert pool(labels, "share").targets == {"a": pytest.approx(0.5)}
    assert pool(labels[:2], "share").targets == {"a": pytest.approx(0.75)}


def test_one_em_round_by_hand() -> None:
    """Two raters, one text each way: symmetric, so the disputed text stays at one half."""
    units = {
        "agree+": [("x", "positive"), ("y", "positive")],
        "agree-": [("x", "negative"), ("y", "negative")],
        "dispute": [("x", "positive"), ("y", "negative")],
    }
    posterior, right = dawid_skene(units)
    positive, neutral, negative = posterior["dispute"]
    assert positive == pytest.approx(negative, abs=1e-4)
    assert neutral < 0.05
    assert right["x"] == pytest.approx(right["y"], abs=1e-4)


def test_raters_at_chance_are_found_and_left_out() -> None:
    truth = truth_of(200, 7)
    # Noise 2/3 makes every label equally likely whatever the truth: a coin with three sides.
    labels = rated(truth, {"ana": 0.1, "ben": 0.15, "coin": 2 / 3}, 7)
    labels += [Label(uid, "", uid, "positive", "always") for uid in truth]
    assert list(chance_raters(labels)) == ["always", "coin"]
    pooled = pool(labels)
    assert list(pooled.left_out) == ["always", "coin"]
    assert "coin" not in pooled.accuracy


def test_chance_raters_spares_the_careful_when_everyone_agrees() -> None:
    labels = [Label(f"u{i}", "", "t", "neutral", who) for i in range(30) for who in ("ana", "ben")]
    assert chance_raters(labels) == {}


def test_second_look_lists_only_disputed_texts_the_most_doubtful_first() -> None:
    labels = [Label("same", "", "t", "positive", who) for who in ("ana", "ben", "eva")]
    labels += [
        Label("two to one", "", "t", n, w)
        for n, w in zip(("positive", "positive", "negative"), ("ana", "ben", "eva"), strict=True)
    ]  # type: ignore[arg-type]
    labels += [Label("all apart", "", "t", n, w) for n, w in zip(LABELS, ("ana", "ben", "eva"), strict=True)]
    rows = second_look(labels, pool(labels, "share"))
    assert [row[0] for row in rows] == ["all apart", "two to one"]
    assert rows[0][1] == pytest.approx(1.0986, abs=1e-3)  # ln 3


def test_confusions_keep_their_direction() -> None:
    """A rater who always names the next label (positive, neutral, negative, positive) tells as much as a good one."""
    truth = truth_of(300, 11)
    following = {name: LABELS[(i + 1) % 3] for i, name in enumerate(LABELS)}
    labels = rated(truth, {"ana": 0.3, "ben": 0.3}, 11)
    labels += [Label(uid, "", uid, following[name], "cyn") for uid, name in truth.items()]
    pooled = pool(labels, drop_chance_raters=False)
    # Read the wrong way round, cyn would call positive what is neutral; read right, she is always right.
    assert accuracy(pooled.verdicts, truth) > 0.9
    assert accuracy(pool(labels, "share").verdicts, truth) < 0.7


def test_kappa_at_most_zero_is_chance_even_when_uncertain() -> None:
    """21 texts, seven a class, two of each named rightly: p = 6/21 = 0.286 < 1/3, kappa = -0.07 +- 0.15."""
    labels = []
    for i in range(21):
        truth, other = LABELS[i % 3], LABELS[(i + 1 + i // 3 % 2) % 3]
        labels += [Label(f"u{i}", "", "t", truth, name) for name in ("ana", "ben")]
        labels.append(Label(f"u{i}", "", "t", truth if i < 6 else other, "coin"))
    assert list(chance_raters(labels)) == ["coin"]
    assert chance_raters(labels[: 3 * 19]) == {}  # on 19 shared texts nothing is said of anyone
