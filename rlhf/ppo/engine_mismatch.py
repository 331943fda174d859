"""What it costs that another program sampled: importance weights, and how far its log-probs are from the policy's.

Shapes: B completions, T completion tokens. Log-probs in nats.

With completions y ~ q of an engine and the policy π of the moment of sampling, the gradient that is wanted is

    E_π[Σ_t A_t ∇ log π(y_t)] = E_q[ρ(y) Σ_t A_t ∇ log π(y_t)],   ρ(y) = Π_t ρ_t,   ρ_t = π(y_t|prefix)/q(y_t|prefix).

The anchor of PPO's ratio stays the policy's own scored log-prob; the weight, which no gradient passes, multiplies the
loss. What is taken for ρ is `--vllm_importance_sampling_mode`, TRL's names, with a largest weight C
(`--vllm_importance_sampling_clip_max`):

- sequence_truncate: min(ρ(y), C) at every token. Unbiased but for the cut; its variance grows with the length, as
  e^(Tσ²) where log ρ_t has standard deviation σ: for short completions, or an engine that is off by rounding alone.
- sequence_mask: ρ(y), or 0 where it is beyond C: completions that the policy would not have written are left out (MIS;
  Liu et al. 2025, "When Speed Kills Stability"). The choice where the engine is sometimes far off.
- token_truncate: min(ρ_t, C) of each token alone, as if its prefix were the policy's own (TIS; Yao et al. 2025, "Your
  Efficient RL Framework Secretly Brings You Off-Policy RL Training"; truncation by Ionides 2008). Biased by what the
  prefixes are off, with a variance that does not grow: for long completions.
- token_mask: ρ_t, or 0 beyond C.
- none: no weights. For measuring what the others are good for.

With the own sampler π and q are one, ρ = 1, and nothing of this is computed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlhf.ppo.config import PPOConfig
from rlhf.ppo.objective import MAX_LOG_RATIO, masked_mean
from rlhf.ppo.rollout import Rollout

NOT_MEASURED = (
    "sampling/sampling_logp_difference/mean",
    "sampling/sampling_logp_difference/max",
    "sampling/importance_sampling_ratio/min",
    "sampling/importance_sampling_ratio/mean",
    "sampling/importance_sampling_ratio/max",
    "sampling/importance_sampling_ratio/cut",
)
"""Keys of metrics.jsonl that are null where the own sampler samples."""


class Weights(NamedTuple):
    """Importance weights of a rollout's tokens, (B, T)."""

    used: Tensor  # in the loss; 0 where masked
    before: Tensor  # before truncation or masking; of a sequence mode the same at each of its tokens


def importance_weights(
    old_logprobs: Tensor, engine_logprobs: Tensor, mask: Tensor, mode: str, clip_max: float
) -> Weights:
    """ρ of the tokens or of whole completions (see above), as `mode` constrains it at C = `clip_max`. All (B, T)."""
    log_ratio = torch.where(mask, old_logprobs - engine_logprobs, 0.0)
    if mode.startswith("sequence"):
        log_ratio = torch.where(mask, log_ratio.sum(-1, keepdim=True), 0.0)
    before = log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    cut = before.clamp(max=clip_max) if mode.endswith("truncate") else torch.where(before > clip_max, 0.0, before)
    return Weights(torch.where(mask, torch.ones_like(before) if mode == "none" else cut, 0.0), before)


def weights_of(rollout: Rollout, config: PPOConfig) -> Weights | None:
    """A rollout's importance weights; None where the own sampler sampled."""
    if not rollout.by_engine:
        return None
    mode, most = config.vllm_importance_sampling_mode, config.vllm_importance_sampling_clip_max
    return importance_weights(rollout.old_logprobs, rollout.sampler_logprobs, rollout.completion_mask, mode, most)


def mismatch_statistics(rollout: Rollout, config: PPOConfig) -> dict[str, Any]:
    """The keys `sampling/...` of metrics.jsonl, before any weight is cut; null where the own sampler sampled."""
    weights, mask = weights_of(rollout, config), rollout.completion_mask
    if weights is None:
        return dict.fromkeys(NOT_MEASURED)
    apart = (rollout.old_logprobs - rollout.sampler_logprobs).abs()
    before, cut = weights.before[mask], (weights.used < weights.before)[mask]
    values = (masked_mean(apart, mask), apart[mask].max(), before.min(), before.mean(), before.max())
    share = float(cut.double().mean()) if config.vllm_importance_sampling_mode != "none" else 0.0
    return dict(zip(NOT_MEASURED, (*map(float, values), share), strict=True))
