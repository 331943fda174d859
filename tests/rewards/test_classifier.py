"""Classifiers of the field as rewards: every score is that of transformers' own forward of the text by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rewards.classifier import ClassifierReward
from rewards.loading import load_reward
from tests.rewards.classifier_kinds import ENCODERS, KINDS, PADS, make

PROMPTS = ["It was the best", "", "Good morning.", "What", "the joy of", "No"]
COMPLETIONS = [" of times, it was the worst of times.", "A happy day!", "", " sorrow is this? None.", " joys", "!"]
CASES = [
    (kind, labels, pad, side)
    for kind in KINDS
    for labels in (1, 3)
    for pad in PADS
    for side in ("left", "right")
    if pad == "own" or kind not in ENCODERS  # encoders bring a pad token
]


@torch.no_grad()
def alone(model: Any, tokenizer: Any, text: str) -> torch.Tensor:
    """transformers' own forward of one text: (L,)."""
    logits: torch.Tensor = model(**tokenizer(text, return_tensors="pt")).logits[0]
    return logits


def wanted(model: Any, tokenizer: Any) -> list[float]:
    """The scores by hand; an empty text cannot be given to transformers, and is not among them."""
    rows = [alone(model, tokenizer, p + c) for p, c in zip(PROMPTS, COMPLETIONS, strict=True)]
    if model.config.num_labels == 1:
        return [float(row[0]) for row in rows]
    return [float(row.log_softmax(-1)[2]) for row in rows]


@pytest.mark.parametrize(("kind", "labels", "pad", "side"), CASES)
def test_scores_are_those_of_each_text_alone(kind: str, labels: int, pad: str, side: str, tmp_path: Path) -> None:
    model, tokenizer = make(kind, labels, pad=pad, padding_side=side)
    expected = wanted(model, tokenizer)
    label = "POSITIVE" if labels > 1 else None
    model.save_pretrained(tmp_path / "clf")
    tokenizer.save_pretrained(tmp_path / "clf")
    by_object = load_reward(model, label=label, processing_class=tokenizer)
    by_directory = load_reward(tmp_path / "clf", label=label, device="cpu")
    assert len({round(value, 3) for value in expected}) > 3  # the texts do differ
    for reward in (by_object, by_directory):
        assert isinstance(reward, ClassifierReward)
        assert reward(PROMPTS, COMPLETIONS) == pytest.approx(expected, abs=1e-5)
        assert reward._in_batches
