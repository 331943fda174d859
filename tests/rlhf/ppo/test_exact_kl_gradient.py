"""The exact gradient of the KL is the enumerated one, both its terms; leaving either out is another one."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from rewards.rules import full_stop
from rlhf import PPOConfig, PPOTrainer
from rlhf.foundation.errors import InputError
from rlhf.ppo.advantages import Targets, targets
from rlhf.ppo.chosen import ChosenTokens
from rlhf.ppo.measuring import Measurer
from rlhf.ppo.normalization import Normalization
from rlhf.ppo.objective import clipped_loss, gathered, kl_of_the_next, kl_to_come, masked_sum
from rlhf.ppo.policy import reference_of
from rlhf.ppo.rollout import Rollout

LENGTH, VOCABULARY, END, BETA = 3, 4, 0, 0.7
BODY = range(1, VOCABULARY)
SPACE = [(*body, END) for n in range(LENGTH) for body in itertools.product(BODY, repeat=n)]
SPACE += list(itertools.product(BODY, repeat=LENGTH))
IDS = torch.tensor([[*row, *[END] * (LENGTH - len(row))] for row in SPACE])
MASK = torch.tensor([[i < len(row) for i in range(LENGTH)] for row in SPACE])
START = torch.zeros(len(SPACE), 1, dtype=torch.long)


def test_the_kl_to_come_by_hand() -> None:
    kl, mask = torch.tensor([[1.0, 2.0, 4.0], [1.0, 2.0, 99.0]]), torch.tensor([[True] * 3, [True, True, False]])
    assert kl_to_come(kl, mask).tolist() == [[6.0, 4.0, 0.0], [2.0, 0.0, 0.0]]
    assert kl_of_the_next(kl, mask).tolist() == [[2.0, 4.0, 0.0], [2.0, 0.0, 0.0]]


def two_models() -> tuple[Any, Any]:
    torch.manual_seed(3)
    shape = GPT2Config(
        vocab_size=VOCABULARY, n_positions=8, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0,
        initializer_range=0.5, resid_pdrop=0.0, attn_pdrop=0.0, embd_pdrop=0.0,
    )  # fmt: skip
    policy = GPT2LMHeadModel(shape).double().eval()
    original = reference_of(policy)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return policy, original


def log_probability(model: Any) -> Tensor:
    """log P of each of SPACE, (N,)."""
    logp = model(torch.cat([START, IDS[:, :-1]], 1)).logits.log_softmax(-1)
    return torch.where(MASK, gathered(logp, IDS), 0.0).sum(-1)


def enumerated(policy: Any, original: Any) -> Tensor:
    """β ∇ Σ_y π(y) log(π(y)/ref(y)), all parameters in one row."""
    with torch.no_grad():
        reference = log_probability(original)
    logp = log_probability(policy)
    assert float(logp.detach().exp().sum()) == pytest.approx(1.0)
    return gradient(BETA * (logp.exp() * (logp - reference)).sum(), policy)


def gradient(loss: Tensor, policy: Any) -> Tensor:
    policy.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in policy.parameters()])


def config(**options: Any) -> PPOConfig:
    small = {"output_dir": "-", "dtype": "float64", "beta": BETA, "kl_gradient": "exact"}
    return PPOConfig(**(small | options))


def rollout_of(policy: Any, original: Any, args: PPOConfig) -> Rollout:
    measured = Measurer(policy, original, args)(START, START == 0, IDS, MASK)
    nothing = torch.zeros(len(SPACE), dtype=torch.float64)
    return Rollout(
        prompts=[""] * len(SPACE), completions=[""] * len(SPACE), prompt_ids=START, prompt_mask=START == 0,
        completion_ids=IDS, completion_mask=MASK, rewards=nothing, sampler_logprobs=measured.tokens["old_logprobs"],
        ended=nothing == 0, end_token_ids=(END,), vocabulary=VOCABULARY, **measured.tokens, **measured.sums,
    )  # fmt: skip


def expected_gradient(policy: Any, original: Any, args: PPOConfig, *, ways: str = "both") -> Tensor:
    """What the update's loss gives on average over the policy's own completions; the rewards say nothing."""
    rollout = rollout_of(policy, original, args)
    aims: Targets = targets(rollout, Normalization(0.0, 1.0, 1, "given"), BETA, args)
    found = ChosenTokens(policy, args, original=original)(START, START == 0, IDS, MASK)
    assert found.kl is not None
    weights = log_probability(policy).exp().detach()[:, None]
    advantages = aims.advantages * weights * (ways != "direct")
    score = clipped_loss(found.logprobs, rollout.old_logprobs, advantages, MASK, args.epsilon).loss
    direct = aims.kl_weight * masked_sum(found.kl * weights, MASK) * (ways != "score")
    return gradient(score + direct, policy)


@pytest.mark.parametrize("tile", [None, 3])
@pytest.mark.parametrize("split", [True, False])
def test_it_is_the_enumerated_gradient(monkeypatch: pytest.MonkeyPatch, split: bool, tile: int | None) -> None:
    policy, original = two_models()
    if not split:
        monkeypatch.setattr("rlhf.ppo.chosen.split_with_linear_head", lambda _: None)
    if tile:
        monkeypatch.setattr("rlhf.ppo.chosen.tokens_per_tile", lambda *_: tile)
    want = enumerated(policy, original)
    assert float(want.abs().max()) > 0.01
    found = expected_gradient(policy, original, config())
    assert float((found - want).abs().max()) < 1e-6 * float(want.abs().max())
    for part in ("direct", "score"):
        assert float((expected_gradient(policy, original, config(), ways=part) - want).abs().max()) > 1e-2


def test_whitening_divides_both_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, original = two_models()
    rollout = rollout_of(policy, original, config())
    constants = Normalization(0.0, 1.0, 1, "given")
    plain = targets(rollout, constants, BETA, config())
    white = targets(rollout, constants, BETA, config(whiten_advantages=True))
    spread = plain.advantages[MASK].std(correction=0)
    assert plain.kl_weight == BETA
    assert white.kl_weight == pytest.approx(BETA / float(spread))


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"critic": "shared"}, {"train_scope": "last_layer"}])
def test_a_run_with_it_holds_the_policy_back(
    build_model: Any, tokenizer: Any, tmp_path: Path, options: dict[str, Any]
) -> None:
    def kl_after(name: str, beta: float) -> float:
        args = PPOConfig(
            output_dir=str(tmp_path / name), iteration_batch_size=64, max_iteration_batch_size=64, minibatch_size=32,
            max_completion_length=8, num_eval_samples=8, normalization_samples=64, kl_budget=50.0, ladder_step=7.0,
            quiet=True, learning_rate=1e-3, max_iterations=8, beta=beta, kl_gradient="exact", **options,
        )  # fmt: skip
        trainer = PPOTrainer(build_model(), full_stop, args, processing_class=tokenizer)
        line: dict[str, Any] = {}
        while trainer.stop_reason is None:
            line = trainer.step(trainer.rollout())
        trainer.close()
        return float(line["kl_per_completion"])

    assert kl_after("held", 3.0) < 0.5 * kl_after("free", 1e-6)


@pytest.mark.parametrize("options", [{"beta": 0.0}, {"beta": 0.1, "temperature": 0.9}])
def test_it_needs_a_penalty_and_the_policy_s_own_temperature(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="kl_gradient"):
        PPOConfig(output_dir="-", kl_gradient="exact", **options)
