"""Offset and scale: the fixed constants that turn a raw reward into an advantage, from samples of the base policy."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rlhf.foundation.errors import InputError
from rlhf.foundation.records import Sample

if TYPE_CHECKING:
    from rewards.loading import RewardModel

MINIMUM_SAMPLES = 16
_PROMPTS_KEPT = 20


@dataclass(frozen=True, slots=True)
class Normalization:
    """(reward - offset) / scale. `offset` is the mean and `scale` the standard deviation (n - 1) of the raw reward.

    They hold for the policy and the prompts they were measured on: `sources`, `prompts` (the most frequent ones, with
    their counts) and `max_completion_tokens` (the longest completion in tokens of the reward's own tokenizer).
    """

    offset: float
    scale: float
    n: int
    offset_se: float
    sources: dict[str, int]
    prompts: dict[str, int]
    n_prompts: int
    max_completion_tokens: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def measure_normalization(
    rewards: Sequence[float],
    *,
    prompts: Sequence[str],
    sources: Sequence[str],
    completion_tokens: Sequence[int],
    place: str,
) -> Normalization:
    """Constants from one raw reward a sample.

    Raises InputError when there are fewer than 16 samples, or when all of them get one reward: such a reward could
    only be divided by zero, and would teach nothing. `place` says in the message where the samples came from.
    """
    if len(rewards) < MINIMUM_SAMPLES:
        raise InputError(
            place,
            got=f"{len(rewards)} samples",
            expected=f"at least {MINIMUM_SAMPLES}, better some thousands, for the reward's mean and spread",
            fix="draw more with `rlhf sample`",
        )
    scale = statistics.stdev(rewards)
    if scale <= 1e-9 * max(1.0, abs(statistics.fmean(rewards))):
        raise InputError(
            place,
            got=f"one and the same reward, {rewards[0]:.6g}, for all {len(rewards)} samples",
            expected="rewards that differ between samples",
            fix="check the reward: a constant one teaches nothing",
        )
    counts = Counter(prompts)
    return Normalization(
        offset=statistics.fmean(rewards),
        scale=scale,
        n=len(rewards),
        offset_se=scale / len(rewards) ** 0.5,
        sources=dict(Counter(sources)),
        prompts=dict(counts.most_common(_PROMPTS_KEPT)),
        n_prompts=len(counts),
        max_completion_tokens=max(completion_tokens),
    )


def normalization_of(
    reward: RewardModel, samples: Sequence[Sample], scores: list[float], place: str | None
) -> dict[str, Any]:
    """The fixed offset and scale, from the reward's scores of the base policy's samples."""
    return measure_normalization(
        scores,
        prompts=[s.prompt for s in samples],
        sources=[s.source for s in samples],
        completion_tokens=reward.encoder.completion_lengths([s.completion for s in samples]),
        place=str(place),
    ).as_dict()
