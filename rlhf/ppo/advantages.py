"""From a rollout's rewards to what the update needs: the same advantage at every token, or GAE with a critic."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from rlhf.ppo.config import PPOConfig
from rlhf.ppo.normalization import Normalization
from rlhf.ppo.objective import constant_advantages, explained_variance, gae, token_rewards, whiten
from rlhf.ppo.rollout import Rollout


class Targets(NamedTuple):
    """What the update works towards; B completions, T tokens."""

    advantages: Tensor  # (B, T), 0 where masked
    mask: Tensor  # (B, T) bool, the tokens that are updated; unscored completions are left out
    returns: Tensor | None = None  # (B, T) the values to be learnt, with a critic
    explained_variance: float | None = None  # of the reward-to-go by the values at sampling, with a critic


def targets(rollout: Rollout, constants: Normalization, beta: float, config: PPOConfig) -> Targets:
    """The targets of a rollout. Without a critic A_t is the completion's normalised reward, less `beta` times its KL.

    With one, rewards and KL are paid token by token and A is GAE's; the returns are A + V before any whitening.
    """
    mask = rollout.completion_mask & rollout.scored[:, None]
    if rollout.values is None or rollout.ref_logprobs is None:
        advantages = constant_advantages(rollout.rewards, constants.offset, constants.scale, beta, rollout.k1, mask)
        return Targets(whiten(advantages, mask) if config.whiten_advantages else advantages, mask)
    paid = token_rewards(
        rollout.rewards, constants.offset, constants.scale, beta, rollout.old_logprobs, rollout.ref_logprobs, mask
    )
    advantages = gae(paid, rollout.values, mask, config.gamma, config.lam)
    reward_to_go = gae(paid, rollout.values * 0, mask, config.gamma, 1.0)
    return Targets(
        advantages=whiten(advantages, mask) if config.whiten_advantages else advantages,
        mask=mask,
        returns=advantages + rollout.values,
        explained_variance=explained_variance(rollout.values, reward_to_go, mask),
    )
