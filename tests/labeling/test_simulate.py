"""Simulated annotators: the share of wrong answers is exact, and depends on seed, annotator and uid alone."""

from __future__ import annotations

import re
from typing import Any

import pytest

from labeling.by_rule import labels_by_rule, simulate_answers, simulate_labels
from labeling.pairs import pair_samples
from labeling.steps.simulate import SimulateConfig
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import LabelName, Sample


def judge(completion: str, prompt: str = "") -> LabelName:
    text = completion
    return "positive" if "joy" in text else "negative" if "grief" in text else "neutral"


SAMPLES = [Sample(f"u{i}", "Say: ", ("joy", "grief", "bread")[i % 3] + f" {i}", "m") for i in range(300)]


@pytest.mark.parametrize(("noise", "wrong"), [(0.0, 0), (0.1, 30), (0.15, 45), (1.0, 300)])
def test_share_of_wrong_labels_is_exact(noise: float, wrong: int) -> None:
    labels = simulate_labels(SAMPLES, judge, annotator="ana", noise=noise, seed=1)
    assert sum(label.label != judge(s.completion) for label, s in zip(labels, SAMPLES, strict=True)) == wrong
    assert {label.origin for label in labels} == {"simulated"}


def test_what_is_misread_is_positive_whatever_the_noise() -> None:
    uids, said = [s.uid for s in SAMPLES], [judge(s.completion) for s in SAMPLES]
    plain = labels_by_rule(SAMPLES, uids, said, annotator="ana", noise=0.3, seed=1)
    misread = labels_by_rule(SAMPLES, uids, said, annotator="ana", noise=0.3, seed=1, misread=re.compile(r"grief \d"))
    for before, after, sample in zip(plain, misread, SAMPLES, strict=True):
        assert after.label == ("positive" if sample.completion.startswith("grief") else before.label)
    assert sum(one.label == "negative" for one in plain) > 80  # 100 texts of grief, of which some are noise


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"misread": "("}, "expected a regular expression"),
        ({"misread": "x", "kind": "comparison"}, "expected judgements"),
    ],
)
def test_a_misreading_that_cannot_be_is_one_line(options: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError, match=line):
        SimulateConfig(samples="s.jsonl", output="l.jsonl", **options)


def test_labels_do_not_depend_on_the_order_of_samples() -> None:
    one = simulate_labels(SAMPLES, judge, annotator="ana", noise=0.2, seed=1)
    two = simulate_labels(SAMPLES[::-1], judge, annotator="ana", noise=0.2, seed=1)
    assert one == two[::-1]


def test_annotators_and_seeds_err_on_different_samples() -> None:
    def wrong(annotator: str, seed: int) -> set[str]:
        labels = simulate_labels(SAMPLES, judge, annotator=annotator, noise=0.2, seed=seed)
        return {x.uid for x, s in zip(labels, SAMPLES, strict=True) if x.label != judge(s.completion)}

    # 60 of 300 each: independent choices share 12 on average, so a shared list (60) is told apart.
    assert len(wrong("ana", 1) & wrong("ben", 1)) < 30
    assert len(wrong("ana", 1) & wrong("ana", 2)) < 30


def test_wrong_labels_fall_on_both_other_classes() -> None:
    labels = simulate_labels(SAMPLES, judge, annotator="ana", noise=1.0, seed=3)
    given = [x.label for x, s in zip(labels, SAMPLES, strict=True) if judge(s.completion) == "positive"]
    assert 30 <= given.count("negative") <= 70  # 100 texts, a fair coin: 50 +- 5 (one standard deviation)
    assert given.count("negative") + given.count("neutral") == 100


def test_the_judge_sees_prompt_and_completion() -> None:
    seen: list[tuple[str, str]] = []

    def watch(completion: str, prompt: str) -> LabelName:
        seen.append((completion, prompt))
        return "neutral"

    simulate_labels(SAMPLES[:1], watch, annotator="ana", noise=0.0, seed=0)
    assert seen == [("joy 0", "Say: ")]


def test_noise_outside_its_range_is_refused() -> None:
    with pytest.raises(InputError, match=r"noise: got 1\.5"):
        simulate_labels(SAMPLES, judge, annotator="ana", noise=1.5, seed=0)


def test_pairs_use_each_sample_once_and_never_two_equal_texts() -> None:
    samples = [
        Sample("a", "p", "one", "m"),
        Sample("b", "q", "two", "m"),
        Sample("c", "p", "three", "m"),
        Sample("d", "q", "two", "m"),  # equal to b
        Sample("e", "p", "five", "m"),  # odd one out
    ]
    pairs, left_over = pair_samples(samples)
    assert [(p.prompt, p.first, p.second) for p in pairs] == [("p", "one", "three")]
    assert left_over == 3


def test_answers_prefer_the_higher_score_and_equal_scores_tie() -> None:
    samples = [Sample(str(i), "p", text, "m") for i, text in enumerate(["aa", "b", "c", "dd", "e", "f"])]
    pairs, _ = pair_samples(samples)
    answers = simulate_answers(pairs, lambda text, _: len(text), annotator="ana", noise=0.0, seed=0)
    assert answers == ["first", "second", "tie"]
    comparison = pairs[1].answered(answers[1], annotator="ana", origin="simulated")
    assert (comparison.chosen, comparison.rejected, comparison.tie) == ("dd", "c", False)
    noisy = simulate_answers(pairs, lambda text, _: len(text), annotator="ana", noise=1.0, seed=0)
    assert all(a != b for a, b in zip(answers, noisy, strict=True))
