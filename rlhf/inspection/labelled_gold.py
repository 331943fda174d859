"""Labels of people as gold: what raters said of the very samples that a ladder is evaluated on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labeling.counting import plain
from labeling.pooling import Method
from rewards.targets import pool_labels
from rlhf.foundation.records import Label, lazy_records


class LabelledGold:
    """Labels as a reward function: P(positive) + P(neutral)/2 of a labelled completion, None for any other.

    Raters are pooled as in `rlhf reward`. Texts are met by prompt and completion as one, so that labels of a draw's
    samples fit whenever that draw is made again.
    """

    def __init__(self, path: Path, method: Method = "dawid_skene") -> None:
        """Read labels.jsonl. Raises InputError when it is missing, no file of labels, or of raters at chance alone."""
        self.pooled = pool_labels(lazy_records(Label, path), method, str(path))
        self.targets = {plain(text.prompt + text.completion): text.target for text in self.pooled.texts}
        self.__name__ = path.stem

    @property
    def note(self) -> str:
        """How many labels of whom count, and what was done with the raters."""
        votes = self.pooled.counted.votes
        told = f"{len(votes)} labels on {len(votes.uids)} texts by {len(votes.by_rater())} annotators"
        return "; ".join([told, *self.pooled.lines()])

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], completion_ids: Any = None, **kwargs: Any
    ) -> list[float | None]:
        """Scores in [0, 1] in TRL's reward-function signature."""
        return [self.targets.get(plain(p + c)) for p, c in zip(prompts, completions, strict=True)]
