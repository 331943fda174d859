"""The constants that turn a raw reward into an advantage, (reward - offset) / scale: fixed before the first rollout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rlhf.foundation.conversation import prompt_to_text
from rlhf.foundation.errors import InputError
from rlhf.ppo.rollout import Rollout


class Normalization(NamedTuple):
    """`offset` and `scale` are mean and standard deviation (n - 1) of the raw reward over n samples."""

    offset: float
    scale: float
    n: int
    source: str


def measure(rollout: Rollout) -> Normalization:
    """The constants from samples of the initial policy. Raises InputError when their rewards have no spread."""
    values = rollout.rewards[rollout.scored]
    spread = float(values.std()) if len(values) > 1 else 0.0
    if not spread > 0:
        raise InputError(
            "reward",
            got=f"no spread over {len(values)} scored samples of the initial policy",
            expected="rewards that differ",
            fix="check the reward on a few samples, or give more of them",
        )
    return Normalization(float(values.mean()), spread, len(values), "samples of the initial policy")


def from_reward_file(
    report: Mapping[str, Any], *, model: str, prompts: Sequence[Any], max_completion_length: int
) -> Normalization | None:
    """The constants of a reward_model.json, if they were measured on this model, these prompts and this length."""
    known = report.get("normalization")
    if known is None or not {"sources", "prompts", "max_completion_tokens", "n"} <= known.keys():
        return None
    if set(known["sources"]) != {model} or set(known["prompts"]) != {prompt_to_text(p) for p in prompts}:
        return None
    # Lengths are the reward's own tokens without the end token; other lengths are other rewards.
    if not max_completion_length - 1 <= known["max_completion_tokens"] <= max_completion_length:
        return None
    return Normalization(known["offset"], known["scale"], known["n"], "reward_model.json")
