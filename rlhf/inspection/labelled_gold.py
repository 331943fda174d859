"""Labels of people as gold: what raters said of the very samples that a ladder is evaluated on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from labeling.pooling import pool
from rlhf.foundation.records import read_labels


class LabelledGold:
    """Labels as a reward function: P(positive) + P(neutral)/2 of a labelled completion, None for any other.

    Raters are pooled as in `rlhf reward`. Texts are met by prompt and completion, so that labels of a draw's samples
    fit whenever that draw is made again.
    """

    def __init__(self, path: Path) -> None:
        """Read labels.jsonl. Raises InputError when it is missing or no file of labels."""
        labels = read_labels(path)
        targets = pool(labels).targets
        found: dict[tuple[str, str], list[float]] = defaultdict(list)
        for uid, prompt, completion in dict.fromkeys((row.uid, row.prompt, row.completion) for row in labels):
            if uid in targets:
                found[prompt, completion].append(targets[uid])
        self.targets = {text: float(np.mean(values)) for text, values in found.items()}
        self.__name__ = path.stem

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], completion_ids: Any = None, **kwargs: Any
    ) -> list[float | None]:
        """Scores in [0, 1] in TRL's reward-function signature."""
        return [self.targets.get(text) for text in zip(prompts, completions, strict=True)]
