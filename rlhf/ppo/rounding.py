"""How far bfloat16 alone moves a run's log-probs, so that the doctor does not take it for a fault."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from rlhf.ppo.config import PPOConfig
from rlhf.ppo.machinery import Cause
from rlhf.ppo.precision import is_half
from rlhf.ppo.sampled import ROUNDING, Sampled, Score, apart, chosen_logprobs

APART = 0.03  # mean nats a token; activations alone made 0.02 on SmolLM2-135M
READ = 16  # completions that are read once more in float32
# A model whose weights are bfloat16 cannot be read in float32 without a copy. Three times what the mean was and twice
# the largest of some 500 tokens on SmolLM2-135M (docs/log.md, 2026-11-26).
OF_BF16_WEIGHTS = (0.15, 0.6)


class Rounding(NamedTuple):
    """Nats a token."""

    mean: float
    most: float


def rounding_of_run(policy: Any, sampled: Sampled, config: PPOConfig, score: Score, in_float32: Score) -> Rounding:
    """What two passes over the same rows may differ by; in mixed precision by what float32 makes of a few of them.

    Sampler and scoring each are off by as much as that, hence the factors.
    """
    if not is_half(config):
        return Rounding(ROUNDING, ROUNDING)
    if not config.bf16 or config.dtype == "bfloat16":
        return Rounding(*OF_BF16_WEIGHTS)
    few = sampled.rows(slice(0, READ))
    first, second = (chosen_logprobs(policy, few, one) for one in (score, in_float32))
    mask = few.completion_mask
    mean, most = 3 * apart(first, second, mask, mean=True), 3 * apart(first, second, mask)
    return Rounding(max(ROUNDING, mean), max(ROUNDING, most))


def lost_updates(rounding: Rounding, config: PPOConfig) -> list[Cause]:
    """Why samples of the rounded policy are not those of the float32 weights whose KL is told, where they differ."""
    if not config.bf16 or rounding.mean <= 3 * APART:
        return []
    text = f"float32 weights and their rounding to bfloat16 differ by {rounding.mean / 3:.2g} nats a token"
    return [
        Cause(
            "bf16 rounding", f"{text}: changes below 0.2 % of a weight are lost; train in float32 if that is too much"
        )
    ]


def rounding_cause(max_deviation: float, rounding: Rounding, config: PPOConfig) -> list[Cause]:
    """Why a first update's max |ratio - 1| is not 0, where bfloat16 explains it."""
    if not is_half(config) or max_deviation > math.expm1(rounding.most):
        return []
    text = f"scoring and update read other shapes; in bfloat16 that moves a log-prob by up to {rounding.most:.2g} nats"
    return [Cause("bf16 rounding", text)]
