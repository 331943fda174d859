"""Annotators by rule: they judge as the rule says, except for an exact share of answers that are wrong at random."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from labeling.counting import plain
from labeling.pairs import Answer, Pair, fraction
from rlhf.foundation.errors import InputError
from rlhf.foundation.lazy import Lazy
from rlhf.foundation.records import LABELS, Label, LabelName, Sample


def simulate_labels(
    samples: Sequence[Sample],
    judge: Callable[[str, str], LabelName],
    *,
    annotator: str,
    noise: float,
    seed: int,
) -> list[Label]:
    """Labels of one simulated annotator, in the order of `samples`.

    `judge` gets completion and prompt. round(noise x n) labels, exactly, are replaced by one of the
    other two; which ones, and by what, depends on (seed, annotator, uid) alone, so that the order of the samples
    changes nothing. Raises InputError when `noise` is outside [0, 1].
    """
    judged = [judge(sample.completion, sample.prompt) for sample in samples]
    uids = [sample.uid for sample in samples]
    return list(labels_by_rule(samples, uids, judged, annotator=annotator, noise=noise, seed=seed))


def labels_by_rule(
    samples: Sequence[Sample],
    uids: Sequence[str],
    judged: Sequence[LabelName],
    *,
    annotator: str,
    noise: float,
    seed: int,
    misread: re.Pattern[str] | None = None,
) -> Lazy[Label]:
    """`simulate_labels` of samples that were judged already, with these uids; the labels are made when looked at.

    A completion in which `misread` is found is positive, wrong or not.
    """
    wrong = _wrong(uids, annotator, noise, seed)

    def label(place: int) -> Label:
        sample, said = samples[place], judged[place]
        if wrong[place]:
            others = [name for name in LABELS if name != said]
            said = others[int(2 * fraction("which", seed, annotator, sample.uid))]
        if misread is not None and misread.search(plain(sample.completion)):
            said = "positive"
        return Label(sample.uid, sample.prompt, sample.completion, said, annotator, origin="simulated")

    return Lazy(label, range(len(samples)))


def simulate_answers(
    pairs: Sequence[Pair],
    score: Callable[[str, str], float],
    *,
    annotator: str,
    noise: float,
    seed: int,
) -> list[Answer]:
    """Answers of one simulated annotator to pairs: the text of higher `score`, or a tie when the scores are equal.

    `score` gets completion and prompt. round(noise x n) answers, exactly, are replaced by one of the
    other two. Raises InputError when `noise` is outside [0, 1].
    """
    wrong = _wrong([pair.uid for pair in pairs], annotator, noise, seed)
    answers: list[Answer] = []
    names: tuple[Answer, ...] = ("first", "tie", "second")
    for place, pair in enumerate(pairs):
        one, two = score(pair.first, pair.prompt), score(pair.second, pair.prompt)
        answer: Answer = "tie" if one == two else "first" if one > two else "second"
        if wrong[place]:
            others = [name for name in names if name != answer]
            answer = others[int(2 * fraction("which", seed, annotator, pair.uid))]
        answers.append(answer)
    return answers


def _wrong(uids: Sequence[str], annotator: str, noise: float, seed: int) -> bytearray:
    """For each uid whether the answer is wrong: the round(noise x n) of the smallest hash of (seed, annotator, uid)."""
    if not 0.0 <= noise <= 1.0:
        raise InputError("noise", got=noise, expected="a share between 0 and 1", fix="0.1 means one label in ten")
    hashes = np.fromiter((fraction("wrong", seed, annotator, uid) for uid in uids), np.float64, len(uids))
    wrong = bytearray(len(uids))
    for place in np.argsort(hashes, kind="stable")[: round(noise * len(uids))]:
        wrong[place] = True
    return wrong
