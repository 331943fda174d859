"""How far a reward may be trusted: where it is right, what else it goes with, and how its scores are spread.

Shapes: N texts.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rewards.calibration import accuracy
from rewards.held_out import HeldOut
from rlhf.foundation.proportion import Proportion

Array = NDArray[np.float64]
WORD = re.compile(r"\w+|[^\w\s]")
_MOST_COMMON = 50
UNSURE = 0.1  # of the pooled probability, up to which annotators agree
_SHOWN = 12


def words_of(text: str) -> list[str]:
    """Words and marks of a text, in lower case."""
    return WORD.findall(text.lower())


class Correlation(NamedTuple):
    """Pearson's r with n and the 95 % interval by Fisher's z = artanh r, standard error 1/√(n - 3)."""

    r: float
    n: int
    low: float
    high: float


def correlation(x: Array, y: Array) -> Correlation | None:
    """Correlation of two lists of N numbers; None where one of them is constant or N < 4."""
    if len(x) < 4 or np.std(x) == 0 or np.std(y) == 0:
        return None
    r = float(np.clip(np.corrcoef(x, y)[0, 1], -1, 1))
    z = math.atanh(min(max(r, -1 + 1e-12), 1 - 1e-12))
    half = 1.96 / math.sqrt(len(x) - 3)
    return Correlation(r, len(x), math.tanh(z - half), math.tanh(z + half))


class WordEffect(NamedTuple):
    """Mean score of the texts with a word minus that of the texts without it, with its standard error."""

    word: str
    n_with: int
    difference: float
    standard_error: float


def common_word_effects(texts: Sequence[str], scores: Array) -> list[WordEffect]:
    """The 12 of the 50 most common words that go most clearly with the score (largest |difference| / error).

    A word counts once a text. It goes with the score; whether the score pays for it, attribution must tell. With 50
    words looked at, an effect below 3.3 standard errors may be chance (Bonferroni at 5 %).
    """
    # Not sets: which of equally common words come first would be another in every process.
    contents = [dict.fromkeys(words_of(text)) for text in texts]
    counts = Counter(word for words in contents for word in words)
    found = []
    for word, _ in counts.most_common(_MOST_COMMON):
        has = np.array([word in words for words in contents])
        if min(has.sum(), (~has).sum()) < 5:
            continue
        inside, outside = scores[has], scores[~has]
        error = math.sqrt(inside.var(ddof=1) / len(inside) + outside.var(ddof=1) / len(outside))
        if error > 0:
            found.append(WordEffect(word, int(has.sum()), float(inside.mean() - outside.mean()), error))
    return sorted(found, key=lambda effect: -abs(effect.difference / effect.standard_error))[:_SHOWN]


def accuracy_by_margin(held_out: HeldOut) -> list[dict[str, Any]]:
    """Accuracy in three equal groups of judged texts, from the smallest |log-odds| to the largest."""
    judged = np.flatnonzero(held_out.said != 0.5)
    order = judged[np.argsort(np.abs(held_out.log_odds[judged]), kind="stable")]
    return [
        {
            "log_odds_from": float(np.abs(held_out.log_odds[rows]).min()),
            "log_odds_to": float(np.abs(held_out.log_odds[rows]).max()),
            "accuracy": accuracy(held_out.log_odds[rows], held_out.said[rows])._asdict(),
        }
        for rows in np.array_split(order, 3)
        if len(rows)
    ]


def accuracy_by_confidence(held_out: HeldOut) -> dict[str, dict[str, Any]]:
    """Accuracy where the annotators, pooled, are at least 90 % sure of a side, and where they are less."""
    decided = held_out.said != 0.5
    agreed = decided & (np.abs(held_out.targets - held_out.said) <= UNSURE)
    return {
        name: found._asdict()
        for name, rows in (("agreed", agreed), ("divided", decided & ~agreed))
        if (found := accuracy(held_out.log_odds[rows], held_out.said[rows])).n
    }


def ranking(scores_good: Array, scores_bad: Array) -> Proportion:
    """How often a good text scores above a bad one (ties one half): the area under the ROC curve, n the pairs.

    The 95 % interval uses Hanley and McNeil 1982, "The meaning and use of the area under a ROC curve", eq. 1.
    """
    m, n = len(scores_good), len(scores_bad)
    if not m or not n:
        return Proportion(math.nan, 0, 0.0, 1.0)
    above = (scores_good[:, None] > scores_bad[None]).mean() + 0.5 * (scores_good[:, None] == scores_bad[None]).mean()
    a = float(above)
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    variance = (a * (1 - a) + (m - 1) * (q1 - a * a) + (n - 1) * (q2 - a * a)) / (m * n)
    half = 1.96 * math.sqrt(max(variance, 0.0))
    return Proportion(a, m * n, max(0.0, a - half), min(1.0, a + half))


def score_distribution(scores: Array) -> dict[str, Any]:
    """Mean, standard deviation and the 5, 25, 50, 75 and 95 % quantiles of N scores."""
    return {
        "n": len(scores),
        "mean": float(scores.mean()),
        "standard_deviation": float(scores.std(ddof=1)),
        "quantiles": {str(q): float(np.quantile(scores, q / 100)) for q in (5, 25, 50, 75, 95)},
    }


def trust_report(held_out: HeldOut, sample_texts: Sequence[str], sample_scores: Array | None) -> dict[str, Any]:
    """Everything above for reward_model.json; without samples of the base policy, what the held-out texts tell."""
    report: dict[str, Any] = {
        "accuracy_by_margin": accuracy_by_margin(held_out),
        "accuracy_by_annotator_confidence": accuracy_by_confidence(held_out),
        "ranking": ranking(held_out.log_odds[held_out.said > 0.5], held_out.log_odds[held_out.said < 0.5])._asdict(),
    }
    if sample_scores is None:
        return report
    lengths = np.array([float(len(words_of(text))) for text in sample_texts])
    found = correlation(lengths, sample_scores)
    return {
        **report,
        "correlation_with_length_in_words": found._asdict() if found else None,
        "common_words": [effect._asdict() for effect in common_word_effects(sample_texts, sample_scores)],
        "scores_on_base_samples": score_distribution(sample_scores),
    }
