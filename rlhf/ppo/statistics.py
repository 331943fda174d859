"""What a rollout says about the policy that made it: one masked statistic each, named as in metrics.py.

B completions, T tokens. Every process holds the whole rollout, so these are global without another gather.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rlhf.ppo.advantages import Targets
from rlhf.ppo.config import PPOConfig
from rlhf.ppo.engine_mismatch import mismatch_statistics
from rlhf.ppo.normalization import Normalization
from rlhf.ppo.objective import masked_mean
from rlhf.ppo.reward_functions import Rewards
from rlhf.ppo.rollout import Rollout
from rlhf.ppo.update import UpdateStatistics


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """Mean and its standard error (sample std / sqrt(n)) of (n,); NaN error below two values."""
    return float(values.mean()), float(values.std() / math.sqrt(len(values)))


def finite_or_null(line: Mapping[str, Any]) -> dict[str, Any]:
    """The line as JSON can hold it: an estimate that overflowed (k3 of a policy far away) is null."""
    return {key: None if isinstance(x, float) and not math.isfinite(x) else x for key, x in line.items()}


def distinct_2(ids: Tensor, mask: Tensor) -> float:
    """Different pairs of adjacent real tokens over all pairs (Li et al. 2016); NaN-free: 0 when there is no pair."""
    both = mask[:, 1:] & mask[:, :-1]
    pairs = torch.stack([ids[:, :-1][both], ids[:, 1:][both]], 1)
    return len(torch.unique(pairs, dim=0)) / len(pairs) if len(pairs) else 0.0


def iteration_statistics(
    rollout: Rollout,
    targets: Targets,
    constants: Normalization,
    rewards: Rewards,
    update: UpdateStatistics | None,
    config: PPOConfig,
) -> dict[str, Any]:
    """What a line of metrics.jsonl says of samples, rewards and update."""
    of_samples = {**rollout_statistics(rollout, targets, constants), **mismatch_statistics(rollout, config)}
    return {**of_samples, **reward_statistics(rollout, rewards), **update_statistics(update)}


def rollout_statistics(rollout: Rollout, targets: Targets, constants: Normalization) -> dict[str, Any]:
    """The keys of metrics.jsonl that describe the samples and what the update is asked for."""
    advantages, mask = targets.advantages, targets.mask
    mean_advantage = masked_mean(advantages, mask)
    return {
        **sample_statistics(rollout, constants),
        "advantage_mean": float(mean_advantage),
        "advantage_std": float(masked_mean((advantages - mean_advantage) ** 2, mask).sqrt()),
        "explained_variance": targets.explained_variance,
    }


def sample_statistics(rollout: Rollout, constants: Normalization) -> dict[str, Any]:
    """The keys of metrics.jsonl that describe the samples alone."""
    scored = rollout.rewards[rollout.scored]
    reward, reward_se = mean_and_error(scored)
    kl, kl_se = mean_and_error(rollout.kl)
    lengths = rollout.completion_mask.sum(-1)
    return {
        "reward": reward,
        "reward_se": reward_se,
        "reward_std": float(scored.std()),
        "reward_normalized": (reward - constants.offset) / constants.scale,
        "kl_per_completion": kl,
        "kl_per_completion_se": kl_se,
        "kl_k1": float(rollout.k1.mean()),
        "kl_k3": float(rollout.k3.mean()),
        "sqrt_kl": math.sqrt(max(kl, 0.0)),
        "entropy": float(rollout.entropy.sum() / lengths.sum()),
        "iteration_batch_size": len(rollout),
        "unscored": len(rollout) - len(scored),
        "completions/mean_length": float(lengths.double().mean()),
        "completions/clipped_ratio": float((~rollout.ended).double().mean()),
        "distinct_2": distinct_2(rollout.completion_ids, rollout.completion_mask),
        "top_completion_share": Counter(rollout.completions).most_common(1)[0][1] / len(rollout),
        **{f"seconds/{name}": seconds for name, seconds in rollout.seconds.items()},
    }


def reward_statistics(rollout: Rollout, rewards: Rewards) -> dict[str, Any]:
    """Each reward function by itself, and what the endings cost; null where a cost is not asked for."""
    line: dict[str, Any] = {}
    assert rollout.reward_values is not None  # a rollout that was scored
    assert rollout.members is not None
    for name, values in zip(rewards.names, rollout.reward_values, strict=True):
        applies = values[~values.isnan()]
        line[f"rewards/{name}/mean"] = float(applies.mean())
        line[f"rewards/{name}/std"] = float(applies.std()) if len(applies) > 1 else None
    for name, (worst, spread) in zip(rewards.ensembles, rollout.members, strict=True):
        line[f"rewards/{name}/worst_member"] = float(worst.mean())
        line[f"rewards/{name}/disagreement"] = float(spread.mean())
    costs, scored, lengths = rewards.costs, rollout.scored, rollout.completion_mask.sum(-1)
    missing, overlong = costs.missing_end(rollout.ended)[scored], costs.overlong(lengths)[scored]
    line["missing_eos_penalty"] = float(missing.mean()) if costs.penalty else None
    line["overlong_penalty"] = float(overlong.mean()) if costs.factor else None
    return line


def update_statistics(statistics: UpdateStatistics | None) -> dict[str, Any]:
    """The keys of metrics.jsonl that describe the update; null in the line of the policy that stopped the run."""
    return {
        "clip_ratio/region_mean": statistics and statistics.region_mean,
        "clip_ratio/outside_mean": statistics and statistics.outside_mean,
        "clip_ratio/outside_by_epoch": statistics and statistics.outside_by_epoch,
        "ratio_first_update_max_dev": statistics and statistics.ratio_first_update_max_dev,
        "approx_kl_old": statistics and statistics.approx_kl,
        "grad_norm": statistics and statistics.grad_norm,
        "value_loss": statistics and statistics.value_loss,
        "value_clip_ratio": statistics and statistics.value_clip_ratio,
        "early_stopped": statistics and statistics.early_stopped,
        "seconds/update": statistics and statistics.seconds,
    }
