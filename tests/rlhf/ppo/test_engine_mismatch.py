"""Importance weights by hand, and the bias of the gradient that they take away, against the enumerated gradient."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from rlhf import PPOConfig
from rlhf.ppo.engine_mismatch import importance_weights, mismatch_statistics
from rlhf.ppo.evidence import POLICY
from rlhf.ppo.objective import clipped_loss, gathered
from rlhf.ppo.rollout import Rollout
from rlhf.ppo.samplers import Context, Sampler
from tests.rlhf.ppo.test_exact_kl_gradient import END, IDS, LENGTH, MASK, START, gradient, log_probability, two_models

LN2, LN3 = math.log(2.0), math.log(3.0)
# Two completions of 2 tokens and 1; pi/q by token: 2 and 3, then 1/2.
OLD = torch.tensor([[-1.0, -1.0], [-1.0, 99.0]], dtype=torch.float64)
OF_ENGINE = OLD - torch.tensor([[LN2, LN3], [-LN2, 0.0]], dtype=torch.float64)
REAL = torch.tensor([[True, True], [True, False]])
BY_HAND = {
    "token_truncate": [[2.0, 2.5], [0.5, 0.0]],
    "token_mask": [[2.0, 0.0], [0.5, 0.0]],
    "sequence_truncate": [[2.5, 2.5], [0.5, 0.0]],  # 2 x 3 = 6 beyond 2.5
    "sequence_mask": [[0.0, 0.0], [0.5, 0.0]],
    "none": [[1.0, 1.0], [1.0, 0.0]],
}


@pytest.mark.parametrize("mode", BY_HAND)
def test_weights_by_hand(mode: str) -> None:
    found = importance_weights(OLD, OF_ENGINE, REAL, mode, 2.5)
    assert torch.allclose(found.used, torch.tensor(BY_HAND[mode], dtype=torch.float64))
    before = [[6.0, 6.0], [0.5, 1.0]] if mode.startswith("sequence") else [[2.0, 3.0], [0.5, 1.0]]
    assert torch.allclose(found.before, torch.tensor(before, dtype=torch.float64))


def rollout(**fields: Any) -> Rollout:
    nothing = torch.zeros(2, dtype=torch.float64)
    given = dict.fromkeys(("rewards", "kl", "k1", "k3", "entropy"), nothing)
    return Rollout(
        prompts=["", ""], completions=["", ""], prompt_ids=torch.zeros(2, 1), prompt_mask=torch.ones(2, 1),
        completion_ids=torch.zeros(2, 2), completion_mask=REAL, old_logprobs=OLD, sampler_logprobs=OF_ENGINE,
        ended=nothing == 0, end_token_ids=(0,), vocabulary=4, **given, **fields,
    )  # fmt: skip


def test_the_metrics_are_of_the_weights_before_any_is_cut() -> None:
    args = PPOConfig(
        output_dir="-", use_vllm=True, vllm_importance_sampling_mode="token_truncate",
        vllm_importance_sampling_clip_max=2.5,
    )  # fmt: skip
    found = mismatch_statistics(rollout(by_engine=True), args)
    assert found == pytest.approx({
        "sampling/sampling_logp_difference/mean": (LN2 + LN3 + LN2) / 3,
        "sampling/sampling_logp_difference/max": LN3,
        "sampling/importance_sampling_ratio/min": 0.5,
        "sampling/importance_sampling_ratio/mean": (2 + 3 + 0.5) / 3,
        "sampling/importance_sampling_ratio/max": 3.0,
        "sampling/importance_sampling_ratio/cut": 1 / 3,
    })  # fmt: skip
    assert set(mismatch_statistics(rollout(), args).values()) == {None}


def test_the_own_sampler_has_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    from rlhf.ppo.advantages import targets
    from rlhf.ppo.normalization import Normalization

    monkeypatch.setattr("rlhf.ppo.engine_mismatch.importance_weights", lambda *_: pytest.fail("computed"))
    assert targets(rollout(), Normalization(0.0, 1.0, 1, "given"), 0.0, PPOConfig(output_dir="-")).weights is None


def test_weights_multiply_what_is_clipped() -> None:
    logprobs, weights = OLD + torch.tensor([[LN2, 0.0], [0.0, 0.0]]), torch.tensor(BY_HAND["token_truncate"])
    loss = clipped_loss(logprobs, OLD, torch.ones(2, 2), REAL, 0.2, weights).loss
    # ratio 2 clipped to 1.2: 2 x 1.2 + 2.5 x 1 + 0.5 x 1; without weights 1.2 + 1 + 1
    assert float(loss) == pytest.approx(-5.4)
    assert float(clipped_loss(logprobs, OLD, torch.ones(2, 2), REAL, 0.2).loss) == pytest.approx(-3.2)


# -- the gradient over all completions of a model of four tokens -------------------------------------------------------


def logprobs_of_engine(policy: Any, settings: Sampler) -> Tensor:
    """log q (N, T) of each token of each completion."""
    whole = torch.cat([START, IDS], 1)
    with torch.no_grad():
        logits = policy(whole[:, :-1]).logits
    columns = []
    for place in range(LENGTH):
        every = torch.full((len(IDS),), place)
        context = Context(whole, torch.zeros_like(every), every + 1, every, LENGTH, (END,))
        columns.append(gathered(settings.logprobs(logits[:, place], context)[:, None], IDS[:, place : place + 1]))
    return torch.cat(columns, 1)


def rounded(policy: Any) -> Any:
    with torch.no_grad():
        other = copy.deepcopy(policy)
        for parameter in other.parameters():
            parameter.copy_(parameter.to(torch.bfloat16))
    return other


def moved(policy: Any) -> Any:
    torch.manual_seed(5)
    other = copy.deepcopy(policy)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return other


ENGINES = {
    "temperature 0.8": lambda policy: logprobs_of_engine(policy, Sampler(temperature=0.8)),
    "repetition penalty 1.1": lambda policy: logprobs_of_engine(policy, Sampler(repetition_penalty=1.1)),
    "stale weights": lambda policy: logprobs_of_engine(moved(policy), POLICY),
    "bf16": lambda policy: logprobs_of_engine(rounded(policy), POLICY),
}


REWARDS = (IDS == 3).sum(-1).double()[:, None] + torch.arange(len(IDS))[:, None] % 3


def exact_gradient(policy: Any, kept: Tensor) -> Tensor:
    """Of the loss -Σ p r over the completions that `kept` (N,) is 1 of."""
    return gradient(-(log_probability(policy).exp()[:, None] * REWARDS * kept[:, None]).sum(), policy)


def bias(policy: Any, logq: Tensor, mode: str, clip_max: float = 3.0) -> float:
    """|E_q[gradient of the update's loss] - the exact gradient| / |the exact gradient|, of rewards of my own."""
    exact = exact_gradient(policy, torch.ones(len(IDS)))
    x = policy(torch.cat([START, IDS[:, :-1]], 1)).logits.log_softmax(-1)
    logprobs = gathered(x, IDS)
    old = torch.where(MASK, logprobs.detach(), 0.0)
    weights = importance_weights(old, torch.where(MASK, logq, 0.0), MASK, mode, clip_max).used
    shares = torch.where(MASK, logq, 0.0).sum(-1).exp()[:, None]  # how often the engine writes each completion
    assert float(shares.sum()) == pytest.approx(1.0, abs=1e-6)
    advantages = torch.where(MASK, REWARDS * shares, 0.0)
    found = gradient(clipped_loss(logprobs, old, advantages, MASK, 0.2, weights).loss, policy)
    return float((found - exact).norm() / exact.norm())


@pytest.mark.parametrize("engine", ENGINES)
def test_correction_takes_the_bias_away(engine: str) -> None:
    policy, _ = two_models()
    logq = ENGINES[engine](policy)
    plain = bias(policy, logq, "none")
    token, truncated, masked = (
        bias(policy, logq, mode) for mode in ("token_truncate", "sequence_truncate", "sequence_mask")
    )
    print(f"{engine}: {plain:.2e} without, {token:.2e} by token, {truncated:.2e} truncated, {masked:.2e} masked")
    assert plain > 0.02
    assert token < 0.1 * plain
    assert truncated <= masked < 0.06 * plain  # what is left is what the largest weight cuts off
    assert bias(policy, logq, "sequence_truncate", 1e6) < 1e-12
    assert bias(policy, logq, "token_truncate", 1e6) > 1e-4  # prefixes are taken for the policy's own


def test_what_an_engine_never_writes_no_weight_brings_back() -> None:
    """So a truncated engine is refused, or named by the doctor, and not corrected."""
    policy, _ = two_models()
    logq = logprobs_of_engine(policy, Sampler(top_p=0.9))
    plain, token, whole = (bias(policy, logq, mode) for mode in ("none", "token_truncate", "sequence_truncate"))
    unwritten = torch.where(MASK, logq, 0.0).sum(-1).isneginf().double()
    missing = exact_gradient(policy, unwritten).norm() / exact_gradient(policy, torch.ones(len(IDS))).norm()
    print(f"top-p 0.9: {plain:.2e} without, {token:.2e} by token, {whole:.2e} of completions, {missing:.2e} is missing")
    assert min(plain, token, whole) > 0.3
    # Right weights leave exactly what lies on completions that are never written: no weights of the others have it.
    assert whole == pytest.approx(float(missing), rel=1e-6)
