"""Every metric, defined once: name, unit, estimator, mask, healthy range, source.

docs/reference/metrics.md is made from it, and a test compares it with what a run logs.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# The keys that hold the name of a reward function.
_OF_A_FUNCTION = re.compile(r"rewards/.+/(mean|std|worst_member|disagreement)")


class Metric(NamedTuple):
    """One key of metrics.jsonl."""

    unit: str
    estimator: str
    mask: str
    healthy: str
    source: str


_COMPLETIONS = "scored completions"
_TOKENS = "real tokens (first end token kept)"
_PPO = "Schulman et al. 2017, eq. 7"

METRICS: dict[str, Metric] = {
    "iteration": Metric("1", "rollouts before this one", "-", "-", "-"),
    "completions_seen": Metric(
        "completions", "sampled for updates, before this rollout; where given texts are learnt, these", "-", "-", "-",
    ),
    "reward": Metric("reward's own", "mean raw reward", _COMPLETIONS, "rising", "TRL `reward`"),
    "reward_se": Metric("reward's own", "std / sqrt(n)", _COMPLETIONS, "small beside the change of reward", "-"),
    "reward_std": Metric("reward's own", "sample standard deviation", _COMPLETIONS, "above 0", "TRL `reward_std`"),
    "reward_normalized": Metric(
        "initial standard deviations", "(reward - offset) / scale, constants of run.json", _COMPLETIONS, "rising", "-"
    ),
    "kl_per_completion": Metric(
        "nats per completion", "exact KL(policy || original) at every sampled prefix, summed, at temperature 1",
        _TOKENS, "below the budget; its root grows about linearly", "Amini, Vieira and Cotterell 2025",
    ),
    "kl_per_completion_se": Metric("nats per completion", "std / sqrt(n)", _TOKENS, "below 3 % of the KL", "-"),
    "kl_k1": Metric("nats per completion", "mean of sum log(pi/ref)", _TOKENS, "equal to the KL within errors",
                    "Schulman 2020, kl-approx"),
    "kl_k3": Metric("nats per completion", "mean of sum (r - 1 - log r), r = ref/pi", _TOKENS,
                    "near the KL while it is small", "Schulman 2020, kl-approx"),
    "sqrt_kl": Metric("sqrt(nats)", "square root of kl_per_completion", _TOKENS, "about linear in updates",
                      "Bai et al. 2022, section 4.3"),
    "clip_ratio/region_mean": Metric("fraction", "tokens where the clipped term binds, mean over updates", _TOKENS,
                                     "below outside_mean", f"TRL; {_PPO}"),
    "clip_ratio/outside_mean": Metric(
        "fraction", "tokens with |ratio - 1| > epsilon, mean over updates, the first left out", _TOKENS,
        "0.01 to 0.20 (drives the controller)", _PPO,
    ),
    "clip_ratio/outside_by_epoch": Metric("fraction", "the same by epoch", _TOKENS, "rising by epoch", _PPO),
    "ratio_first_update_max_dev": Metric("1", "max |ratio - 1| in the first update", _TOKENS,
                                         "below 1e-3 (float32): the policy that samples is the one updated", "-"),
    "approx_kl_old": Metric("nats per token", "mean of ratio - 1 - log ratio in the last epoch", _TOKENS,
                            "below 0.02", "Schulman 2020, kl-approx"),
    "entropy": Metric("nats per token", "exact, of the next-token distribution", _TOKENS, "falling slowly", "TRL"),
    "advantage_mean": Metric("1", "mean", _TOKENS, "rising with the reward", "-"),
    "advantage_std": Metric("1", "population standard deviation", _TOKENS, "about 1 at the start", "-"),
    "grad_norm": Metric("1", "mean over updates, before clipping; the critic's included", "-", "not growing", "TRL"),
    "explained_variance": Metric("fraction", "1 - Var(R - V)/Var(R), R the reward-to-go; null without a critic",
                                 _TOKENS, "rising towards 1", "OpenAI baselines"),
    "value_loss": Metric("squared initial standard deviations",
                         "mean of the larger of the plain and the clipped squared error; null without a critic",
                         _TOKENS, "falling", "OpenAI baselines; TRL's is half of it"),
    "value_clip_ratio": Metric("fraction", "tokens where the clipped error is the larger one; null without a critic",
                               _TOKENS, "below 0.2", "TRL `val/clipfrac`"),
    "learning_rate": Metric("1", "Adam's, in this iteration's last update", "-", "-", "TRL"),
    "iteration_batch_size": Metric("completions", "of this rollout", "-", "-", "-"),
    "optimizer_steps": Metric("steps", "before this rollout", "-", "-", "-"),
    "unscored": Metric("completions", "no reward function applied; left out of the update", "-", "0", "-"),
    "rewards/NAME/mean": Metric("reward's own", "mean of the reward function NAME alone, before weights",
                                "completions it applies to", "-", "TRL `rewards/NAME/mean`"),
    "rewards/NAME/std": Metric("reward's own", "sample standard deviation of it; null below two values",
                               "completions it applies to", "above 0", "TRL `rewards/NAME/std`"),
    "rewards/NAME/worst_member": Metric(
        "nats", "of the ensemble NAME the least of its members' rewards, mean over completions", "all completions",
        "rising with the reward", "Coste et al. 2023, eq. 4",
    ),
    "rewards/NAME/disagreement": Metric(
        "nats", "of the ensemble NAME the population standard deviation over its members, mean over completions",
        "all completions", "falling, or small beside what the reward gained", "Coste et al. 2023, eq. 5",
    ),
    "missing_eos_penalty": Metric(
        "reward's own", "mean taken off for completions that nothing ended; null without --missing_eos_penalty",
        _COMPLETIONS, "falling", "TRL's PPOTrainer",
    ),
    "overlong_penalty": Metric("reward's own", "mean taken off for length; null without --overlong_buffer_length",
                               _COMPLETIONS, "falling", "Yu et al. 2025, eq. 13"),
    "veto_share": Metric(
        "fraction", "completions that break a constraint", "all completions", "falling", "Ziegler et al. 2019"
    ),
    "beta": Metric("1 / nat", "KL coefficient in this rollout's advantages", "-", "-", "Ziegler et al. 2019"),
    "early_stopped": Metric("-", "whether --early_stop_kl ended the updates", "-", "false", "-"),
    "controller": Metric("-", "null, or what the controller did and why", "-", "-", "-"),
    "kl_landing": Metric("-", "null, or how an update was shortened, or taken back, for the KL budget", "-", "-", "-"),
    "guard": Metric(
        "-", "null, or how what --guard watches goes along the ladder, where a rung is saved or a fall seen (guard.py)",
        "-", "none_seen", "-",
    ),
    "doctor": Metric("-", "null, or symptoms and causes where samples and policy disagree (doctor.py)",
                     _TOKENS, "null", "-"),
    "step_too_large": Metric("-", "null, or what one step too far did and what to lower", "-", "null", "-"),
    "accepted_changes": Metric("-", "null, or the inputs that are others from this line on (--accept_changes)", "-",
                               "null", "-"),
    "completions/mean_length": Metric("tokens", "mean, end token included", "all completions", "not collapsing", "TRL"),
    "completions/clipped_ratio": Metric("fraction", "share that no end token and no stop string ended",
                                        "all completions", "-", "TRL"),
    "sampling/sampling_logp_difference/mean": Metric(
        "nats per token", "mean |log pi - log q|, q of the engine that sampled; null where it is our own sampler",
        _TOKENS, "below 1e-3 in float32, below 0.1 in bfloat16", "TRL",
    ),
    "sampling/sampling_logp_difference/max": Metric("nats", "the largest of them", _TOKENS,
                                                    "below 0.01 in float32, below 1 in bfloat16", "TRL"),
    "sampling/importance_sampling_ratio/min": Metric(
        "1", "smallest weight pi/q before it is cut, of tokens or completions as the mode says; null as above",
        _TOKENS, "near 1", "TRL; Ionides 2008",
    ),
    "sampling/importance_sampling_ratio/mean": Metric("1", "their mean", _TOKENS, "1 within errors", "TRL"),
    "sampling/importance_sampling_ratio/max": Metric("1", "the largest weight", _TOKENS, "below the cut", "TRL"),
    "sampling/importance_sampling_ratio/cut": Metric(
        "fraction", "tokens whose weight was beyond the largest, and was cut down to it or to 0", _TOKENS,
        "below 0.05", "-",
    ),
    "distinct_2": Metric("fraction", "different pairs of adjacent tokens / all pairs", _TOKENS, "not collapsing",
                         "Li et al. 2016"),
    "top_completion_share": Metric("fraction", "share of the most frequent completion", "all completions",
                                   "below 0.05", "-"),
    "seconds/generate": Metric("s", "wall clock", "-", "-", "-"),
    "seconds/score": Metric("s", "wall clock of the reward functions", "-", "-", "-"),
    "seconds/reference": Metric("s", "wall clock of old log-probs, reference and exact KL", "-", "-", "-"),
    "seconds/update": Metric("s", "wall clock", "-", "-", "-"),
}  # fmt: skip


def metric_of(key: str) -> Metric | None:
    """What a key of metrics.jsonl is; None for one that a reward function logged itself."""
    found = _OF_A_FUNCTION.fullmatch(key)
    return METRICS.get(f"rewards/NAME/{found[1]}" if found else key)
