"""The equations of the update, one function each: pure, masked, hand-checked in tests/rlhf/ppo/test_objective.py.

Shapes: B completions, T completion tokens (right-padded), V vocabulary. Masks are True on real tokens. Log-probs are
in nats.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# A log-ratio beyond this is clamped before exp(): e^20 is far outside any clip range and still finite in float32.
MAX_LOG_RATIO = 20.0


def masked_sum(x: Tensor, mask: Tensor) -> Tensor:
    """Σ x over True. Masked entries do not count, whatever they hold (NaN too). Scalar."""
    return torch.where(mask, x, 0.0).sum()


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Σ x / count over True; 0 where nothing is True. Scalar."""
    return masked_sum(x, mask) / mask.sum().clamp(min=1)


def gathered(logp: Tensor, ids: Tensor) -> Tensor:
    """log π(id) from log-probabilities (B, T, V) and ids (B, T); returns (B, T)."""
    return logp.gather(-1, ids[..., None]).squeeze(-1)


def in_place(values: Tensor, mask: Tensor) -> Tensor:
    """(N,) values of the True tokens, in the order of `x[mask]`, as (B, T); 0 elsewhere."""
    return torch.zeros(mask.shape, dtype=values.dtype, device=values.device).masked_scatter(mask, values)


def selected_logprobs(logits: Tensor, ids: Tensor) -> Tensor:
    """log π(id) = logit[id] - logsumexp(logits). logits (B, T, V), ids (B, T); returns (B, T)."""
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten(), reduction="none")
    return -losses.view(ids.shape)


class NextTokenStatistics(NamedTuple):
    """What one pass over two next-token distributions yields, each (B, T), nats."""

    kl: Tensor
    entropy: Tensor


def exact_kl(logp: Tensor, logq: Tensor) -> NextTokenStatistics:
    """KL_t = Σ_v π(v|prefix) (log π(v|prefix) - log ref(v|prefix)), and the entropy of π, at every prefix.

    Summed over a completion whose prefixes were sampled from π its expectation is KL(π‖ref) of whole completions: the
    Rao-Blackwellised estimator (Amini, Vieira and Cotterell 2025, "Better estimation of the KL divergence between
    language models"). Never negative. logp and logq (B, T, V) are log-probabilities over the whole vocabulary; both
    are overwritten, which halves the memory that passes through the processor.
    """
    difference = logq.neg_().add_(logp)
    p = logp.exp()
    kl = difference.mul_(p).sum(-1)
    entropy = p.mul_(logp).sum(-1).neg()
    return NextTokenStatistics(kl.clamp_(min=0.0), entropy)


def kl_k1(logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor) -> Tensor:
    """k1 = Σ_t (log π - log ref) of each completion, nats (Schulman 2020, joschu.net/blog/kl-approx.html). (B,)"""
    return torch.where(mask, logprobs - ref_logprobs, 0.0).sum(-1)


def kl_k3(logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor) -> Tensor:
    """k3 = Σ_t (r - 1 - log r), r = ref/π, of each completion, nats (Schulman 2020). (B,)"""
    log_r = torch.where(mask, ref_logprobs - logprobs, 0.0).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return torch.where(mask, log_r.exp() - 1 - log_r, 0.0).sum(-1)


def constant_advantages(
    rewards: Tensor, offset: float, scale: float, beta: float, sequence_kl: Tensor, mask: Tensor
) -> Tensor:
    """A_t = (reward - offset)/scale - β Σ_t log(π_old/ref), the same at every token of a completion.

    rewards (B,) raw, sequence_kl (B,) = k1 under the policy that sampled, mask (B, T); returns (B, T), 0 where masked.
    With β > 0 the optimum is π* ∝ ref · exp(reward/(scale·β)) (Korbak, Perez and Buckley 2022).
    """
    advantages = (rewards - offset) / scale - beta * sequence_kl  # (B,)
    return torch.where(mask, advantages[:, None], 0.0)


def kl_to_come(kl: Tensor, mask: Tensor) -> Tensor:
    """Σ_{n>m} KL_n: what the token at m brings about, of exact KL at every prefix. kl and mask (B, T); (B, T).

    The score-function term of ∇KL = E[Σ_n ∇KL_n + Σ_m ∇log π(y_m) Σ_{n>m} KL_n] (Amini, Vieira and Cotterell 2025,
    arXiv 2504.10637): the KL at m and before it does not depend on what m chose.
    """
    own = torch.where(mask, kl, 0.0)
    return torch.where(mask, own.flip(-1).cumsum(-1).flip(-1) - own, 0.0)


def standard_deviation(x: Tensor, mask: Tensor) -> Tensor:
    """Population standard deviation over True. Scalar."""
    return masked_mean((x - masked_mean(x, mask)) ** 2, mask).sqrt()


def whiten(advantages: Tensor, mask: Tensor) -> Tensor:
    """(A - mean)/std over True tokens (population std; 0 spread leaves the centred values). (B, T)"""
    mean = masked_mean(advantages, mask)
    std = standard_deviation(advantages, mask)
    centred = torch.where(mask, advantages - mean, 0.0)
    return centred / std if std > 0 else centred


class ClippedLoss(NamedTuple):
    """Sums over real tokens of one micro-batch; the caller divides by the global token count."""

    loss: Tensor  # scalar, with gradient
    outside: Tensor  # tokens with |ratio - 1| > ε
    binding: Tensor  # tokens where the clipped term is the smaller one
    approx_kl: Tensor  # Σ (ratio - 1 - log ratio), nats
    max_deviation: Tensor  # max |ratio - 1|


def clipped_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    epsilon: float,
    weights: Tensor | None = None,
) -> ClippedLoss:
    """-Σ w min(r A, clip(r, 1-ε, 1+ε) A), r = π/π_old, over real tokens (Schulman et al. 2017, eq. 7). All (B, T).

    w are importance weights where another program sampled (engine_mismatch.py), else 1.
    """
    log_ratio = torch.where(mask, logprobs - old_logprobs, 0.0).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    ratio = log_ratio.exp()
    unclipped = ratio * advantages
    clipped = ratio.clamp(1 - epsilon, 1 + epsilon) * advantages
    with torch.no_grad():
        deviation = torch.where(mask, (ratio - 1).abs(), 0.0)
        outside = (deviation > epsilon).sum()
        binding = (mask & (clipped < unclipped)).sum()
        approx_kl = masked_sum(ratio - 1 - log_ratio, mask)
    gains = torch.minimum(unclipped, clipped)
    loss = -masked_sum(gains if weights is None else weights * gains, mask)
    return ClippedLoss(loss, outside, binding, approx_kl, deviation.max())


# -- with a critic -----------------------------------------------------------------------------------------------------


def token_rewards(
    rewards: Tensor,
    offset: float,
    scale: float,
    beta: float,
    logprobs: Tensor,
    ref_logprobs: Tensor,
    mask: Tensor,
) -> Tensor:
    """r_t = -β log(π_old/ref)_t, and at the last real token (reward - offset)/scale besides (Ziegler et al. 2019).

    rewards (B,) raw, the others (B, T); returns (B, T), 0 where masked. Summed over a completion this is the
    critic-free advantage (`constant_advantages`).
    """
    penalties = torch.where(mask, beta * (ref_logprobs - logprobs), 0.0)
    last = mask & ~torch.nn.functional.pad(mask[:, 1:], (0, 1))
    return torch.where(last, penalties + ((rewards - offset) / scale)[:, None], penalties)


def kl_of_the_next(kl: Tensor, mask: Tensor) -> Tensor:
    """KL_{t+1}: the exact KL at the prefix that token t leads to, 0 after the last. Its sum from t is `kl_to_come`."""
    return torch.nn.functional.pad(torch.where(mask, kl, 0.0)[:, 1:], (0, 1))


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> Tensor:
    """A_t = Σ_k (γλ)^k δ_{t+k}, δ_t = r_t + γ V_{t+1} - V_t (Schulman et al. 2016, eq. 16). All (B, T).

    V_t is the value of the prefix before token t; after the last real token there is nothing more to gain, V = 0.
    With λ = 1 and zero values this is the reward-to-go Σ_k γ^k r_{t+k}.
    """
    rewards, values = torch.where(mask, rewards, 0.0), torch.where(mask, values, 0.0)
    advantages = torch.zeros_like(values)
    following = running = torch.zeros_like(values[:, 0])  # V_{t+1} and A_{t+1}, (B,)
    for t in reversed(range(values.shape[1])):
        running = rewards[:, t] + gamma * following - values[:, t] + gamma * lam * running
        advantages[:, t], following = running, values[:, t]
    return advantages


class ValueLoss(NamedTuple):
    """Sums over real tokens of one micro-batch."""

    loss: Tensor  # scalar, with gradient
    clipped: Tensor  # tokens where the clipped error is the larger one


def clipped_value_loss(values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, epsilon: float) -> ValueLoss:
    """Σ max[(V - R)², (clip(V, V_old - ε, V_old + ε) - R)²] over real tokens. All (B, T).

    As in OpenAI's baselines, without their factor 1/2. Where V has left the range towards R the clipped error is the
    larger one, and the gradient is 0.
    """
    moved = values - old_values
    # Within the range the very same number, not one that differs by rounding and would count as clipped.
    near = torch.where(moved.abs() <= epsilon, values, old_values + moved.clamp(-epsilon, epsilon))
    plain, clipped = torch.where(mask, values - returns, 0.0) ** 2, torch.where(mask, near - returns, 0.0) ** 2
    return ValueLoss(torch.maximum(plain, clipped).sum(), (clipped > plain).sum())


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """1 - Var(R - V)/Var(R) over real tokens; 1 is a perfect critic, 0 a constant one; 0 where R does not vary."""

    def variance(x: Tensor) -> Tensor:
        return masked_mean((x - masked_mean(x, mask)) ** 2, mask)

    total = variance(returns)
    return float(1 - variance(returns - values) / total) if total > 0 else 0.0
