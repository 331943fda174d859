"""What the doctor says of another program that samples: rounding, other settings, or weights that are not the policy's.

The causes are found as for any samples (diagnosis.py), from the engine's own log-probs and from what it sampled. An
engine that computes in bfloat16 is off by rounding: to be expected where it was asked for, and what importance weights
are for. Settings and stale weights are faults, which weights can hide and not mend.
"""

from __future__ import annotations

from collections.abc import Sequence

from rlhf.ppo.config import PPOConfig
from rlhf.ppo.machinery import Cause
from rlhf.ppo.precision import is_half
from rlhf.ppo.rounding import OF_BF16_WEIGHTS, Rounding

STALE = "stale weights"
ADVICE = {
    STALE: "the engine samples from other weights than the policy's: see that they are sent before each rollout",
    "rounding": "--vllm_dtype float32, or bfloat16 to expect it; importance weights correct for it",
    "settings": "start the engine without the model's generation_config, and with log-probs of what it samples from",
}


def expected_of_engine(rounding: Rounding, config: PPOConfig) -> Rounding:
    """How far an engine's log-probs may be from the scored ones before it is said, nats a token: `rounding` of the run,
    or what bfloat16 makes, where the engine was asked for in it."""
    return Rounding(*OF_BF16_WEIGHTS) if config.vllm_dtype == "bfloat16" and not is_half(config) else rounding


def of_engine(causes: Sequence[Cause]) -> list[Cause]:
    """Causes in the words for an engine: `... in the engine`, with what to do."""
    return [_of_engine(cause) for cause in causes]


def _of_engine(cause: Cause) -> Cause:
    if cause.name in ("stale reference", "none of the known", "dropout", "padding", "cut prompts"):
        return cause
    name = STALE if cause.name == "stale policy" else cause.name
    kind = name if name == STALE else "rounding" if name.endswith("rounding") else "settings"
    return Cause(f"{name} in the engine", f"{cause.evidence}; {ADVICE[kind]}")
