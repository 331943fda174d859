"""Annotators by rule: they judge as the rule says, except for an exact share of answers that are wrong at random."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from labeling.pairs import Answer, Pair, fraction
from rlhf.foundation.errors import InputError
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
    wrong = _wrong_uids([sample.uid for sample in samples], annotator, noise, seed)
    labels = []
    for sample in samples:
        label = judge(sample.completion, sample.prompt)
        if sample.uid in wrong:
            others = [name for name in LABELS if name != label]
            label = others[int(2 * fraction("which", seed, annotator, sample.uid))]
        labels.append(
            Label(sample.uid, sample.prompt, sample.completion, label, annotator, created_at="", origin="simulated")
        )
    return labels


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
    wrong = _wrong_uids([pair.uid for pair in pairs], annotator, noise, seed)
    answers: list[Answer] = []
    names: tuple[Answer, ...] = ("first", "tie", "second")
    for pair in pairs:
        one, two = score(pair.first, pair.prompt), score(pair.second, pair.prompt)
        answer: Answer = "tie" if one == two else "first" if one > two else "second"
        if pair.uid in wrong:
            others = [name for name in names if name != answer]
            answer = others[int(2 * fraction("which", seed, annotator, pair.uid))]
        answers.append(answer)
    return answers


def _wrong_uids(uids: Sequence[str], annotator: str, noise: float, seed: int) -> set[Hashable]:
    """The round(noise x n) uids with the smallest hash of (seed, annotator, uid)."""
    if not 0.0 <= noise <= 1.0:
        raise InputError("noise", got=noise, expected="a share between 0 and 1", fix="0.1 means one label in ten")
    ranked = sorted(uids, key=lambda uid: fraction("wrong", seed, annotator, uid))
    return set(ranked[: round(noise * len(uids))])
