"""From a rollout's rewards to what the update needs: the same advantage at every token, or GAE with a critic."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from rlhf.ppo.config import PPOConfig
from rlhf.ppo.engine_mismatch import weights_of
from rlhf.ppo.normalization import Normalization
from rlhf.ppo.objective import (
    constant_advantages,
    explained_variance,
    gae,
    kl_of_the_next,
    kl_to_come,
    standard_deviation,
    token_rewards,
    whiten,
)
from rlhf.ppo.rollout import Rollout


class Targets(NamedTuple):
    """What the update works towards; B completions, T tokens."""

    advantages: Tensor  # (B, T), 0 where masked
    mask: Tensor  # (B, T) bool, the tokens that are updated; unscored completions are left out
    kl_weight: float | None = None  # of each prefix's exact KL in the loss, with --kl_gradient exact
    returns: Tensor | None = None  # (B, T) the values to be learnt, with a critic
    explained_variance: float | None = None  # of the reward-to-go by the values at sampling, with a critic
    weights: Tensor | None = None  # (B, T) importance weights of the loss, where another program sampled


def targets(rollout: Rollout, constants: Normalization, beta: float, config: PPOConfig) -> Targets:
    """The targets of a rollout. Without a critic A_t is the completion's normalised reward, less `beta` times its KL.

    With one, rewards and KL are paid token by token and A is GAE's; the returns are A + V before any whitening. With
    --kl_gradient exact a token pays the exact KL of the prefixes after it, and each prefix's own KL is in the loss.
    """
    weights = weights_of(rollout, config)
    found = _targets(rollout, constants, beta, config)
    return found if weights is None else found._replace(weights=weights.used)


def _targets(rollout: Rollout, constants: Normalization, beta: float, config: PPOConfig) -> Targets:
    mask = rollout.completion_mask & rollout.scored[:, None]
    exact, scored = rollout.prefix_kl, (rollout.rewards, constants.offset, constants.scale)
    if rollout.values is None or rollout.ref_logprobs is None:
        if exact is None:
            advantages = constant_advantages(*scored, beta, rollout.k1, mask)
        else:
            advantages = constant_advantages(*scored, 0.0, rollout.k1, mask) - beta * kl_to_come(exact, mask)
        return Targets(*_perhaps_whitened(advantages, mask, beta, config, exact=exact is not None))
    paid = token_rewards(*scored, 0.0 if exact is not None else beta, rollout.old_logprobs, rollout.ref_logprobs, mask)
    if exact is not None:
        paid = paid - beta * kl_of_the_next(exact, mask)
    advantages = gae(paid, rollout.values, mask, config.gamma, config.lam)
    reward_to_go = gae(paid, rollout.values * 0, mask, config.gamma, 1.0)
    return Targets(
        *_perhaps_whitened(advantages, mask, beta, config, exact=exact is not None),
        returns=advantages + rollout.values,
        explained_variance=explained_variance(rollout.values, reward_to_go, mask),
    )


def _perhaps_whitened(
    advantages: Tensor, mask: Tensor, beta: float, config: PPOConfig, *, exact: bool
) -> tuple[Tensor, Tensor, float | None]:
    """Advantages, mask and the weight of the KL in the loss, which whitening divides as it divides the advantages."""
    if not config.whiten_advantages:
        return advantages, mask, beta if exact else None
    spread = float(standard_deviation(advantages, mask)) or 1.0
    return whiten(advantages, mask), mask, beta / spread if exact else None
