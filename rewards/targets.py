"""Labels become soft targets: the rows of one text are pooled, checked, hashed, and split by text."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlhf.foundation.errors import InputError
from rlhf.foundation.records import LABELS, SOFT_TARGETS, Label, LabelName

MINIMUM_LABELS = 20
"""Fewer labels than this are refused: even a perfect held-out share would prove nothing."""


@dataclass(frozen=True, slots=True)
class LabelledText:
    """One text and what its annotators said of it, together.

    `target` is P(positive) as the plain share of the labels, a neutral one counting as one half; `n_labels` is the
    number of rows pooled.
    """

    prompt: str
    completion: str
    target: float
    n_labels: int

    @property
    def verdict(self) -> LabelName:
        """What the labels say on balance: positive above one half, negative below it, neutral at one half."""
        if self.target == 0.5:
            return "neutral"
        return "positive" if self.target > 0.5 else "negative"


def pool_labels(labels: Sequence[Label]) -> list[LabelledText]:
    """One soft target a text, in order of first appearance: target = mean of SOFT_TARGETS over the text's rows.

    Rows are pooled by text (prompt and completion as one), so that a text that was sampled or labelled twice can
    never stand on both sides of a split. Raises InputError when one uid carries two texts.
    """
    text_of: dict[str, str] = {}
    rows: dict[str, list[Label]] = {}
    for label in labels:
        text = label.prompt + label.completion
        if text_of.setdefault(label.uid, text) != text:
            raise InputError(
                f"labels of uid {label.uid}", got="two different texts", expected="one text a uid", fix="mend the file"
            )
        rows.setdefault(text, []).append(label)
    return [
        LabelledText(
            group[0].prompt,
            group[0].completion,
            sum(SOFT_TARGETS[label.label] for label in group) / len(group),
            len(group),
        )
        for group in rows.values()
    ]


def require_both_classes(texts: Sequence[LabelledText], place: str) -> None:
    """Raise InputError unless there are enough labels and both positive and negative texts among them."""
    n_labels = sum(text.n_labels for text in texts)
    verdicts = Counter(text.verdict for text in texts)
    counted = f"{n_labels} labels on {len(texts)} texts ({describe_counts(verdicts)})"
    if n_labels < MINIMUM_LABELS:
        raise InputError(
            place, got=counted, expected=f"at least {MINIMUM_LABELS} labels, better some hundreds", fix="label more"
        )
    for name in ("positive", "negative"):
        if verdicts[name] < 2:
            raise InputError(
                place,
                got=counted,
                expected=f"at least two texts of each class, but {verdicts[name]} are {name}",
                fix=f"label more texts, so that some are {name}, or check how labels were mapped on import",
            )


def describe_counts(verdicts: Counter[LabelName]) -> str:
    """`12 positive, 3 neutral, 5 negative`."""
    return ", ".join(f"{verdicts[name]} {name}" for name in LABELS)


def fold_of_text(texts: Sequence[LabelledText], n_folds: int, seed: int) -> list[int]:
    """Which of `n_folds` folds each text falls into; every verdict is spread evenly over the folds.

    Texts, not rows, are dealt out: all labels of one text stand on one side of every split.
    """
    rng = random.Random(f"folds {seed}")
    folds = [0] * len(texts)
    dealt = 0
    for verdict in LABELS:
        group = [i for i, text in enumerate(texts) if text.verdict == verdict]
        rng.shuffle(group)
        for i in group:
            folds[i] = dealt % n_folds
            dealt += 1
    return folds


def label_summary(labels: Sequence[Label]) -> dict[str, Any]:
    """Counts of what was labelled, for reward_model.json: rows, texts, annotators, labels by name and origin.

    `contradicted_texts` were called positive by one row and negative by another; `duplicate_rows` repeat an
    annotator's judgement of the same text.
    """
    said: dict[str, set[str]] = {}
    for label in labels:
        said.setdefault(label.prompt + label.completion, set()).add(label.label)
    judgements = {(label.annotator, label.prompt + label.completion) for label in labels}
    return {
        "rows": len(labels),
        "texts": len(said),
        "annotators": len({label.annotator for label in labels}),
        "by_label": dict(Counter(label.label for label in labels)),
        "by_origin": dict(Counter(label.origin for label in labels)),
        "contradicted_texts": sum({"positive", "negative"} <= names for names in said.values()),
        "duplicate_rows": len(labels) - len(judgements),
    }


def hash_labels(labels: Sequence[Label]) -> str:
    """SHA-256 over texts, labels and annotators, whatever the order of the rows; times and uids do not enter."""
    rows = sorted(
        json.dumps([label.prompt, label.completion, label.label, label.annotator], ensure_ascii=False)
        for label in labels
    )
    return hashlib.sha256("\n".join(rows).encode("utf-8", "surrogatepass")).hexdigest()
