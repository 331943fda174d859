"""The critic: GAE and the value loss by hand, the module on padded batches, and whole runs with it."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig
from safetensors.torch import load_file
from torch import Tensor
from transformers import GPT2LMHeadModel

from rewards.rules import full_stop
from rewards.token_model import TokenRewardModel, add_reward_tokens
from rlhf import PPOConfig, PPOTrainer
from rlhf.foundation.errors import InputError
from rlhf.ppo.critic import ActorCritic, add_critic
from rlhf.ppo.forward import completion_forward
from rlhf.ppo.objective import (
    clipped_value_loss,
    constant_advantages,
    explained_variance,
    gae,
    token_rewards,
)

Build = Callable[..., GPT2LMHeadModel]
TOLERANCE = 1e-6
NAN = math.nan
# Two completions of 3 and 1 tokens; the rest is padding that holds garbage.
MASK = torch.tensor([[True, True, True, False], [True, False, False, False]])


def naive_gae(rewards: Tensor, values: Tensor, lengths: list[int], gamma: float, lam: float) -> list[list[float]]:
    """A_t = Σ_k (γλ)^k (r_{t+k} + γ V_{t+k+1} - V_{t+k}) by the definition, row by row."""
    found = []
    for row, n in enumerate(lengths):
        r, v = rewards[row, :n].tolist(), [*values[row, :n].tolist(), 0.0]
        found.append(
            [
                sum((gamma * lam) ** k * (r[t + k] + gamma * v[t + k + 1] - v[t + k]) for k in range(n - t))
                for t in range(n)
            ]
        )
    return found


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    padding=st.integers(0, 3),
    gamma=st.floats(0.1, 1.0),
    lam=st.floats(0.0, 1.0),
    seed=st.integers(0, 1000),
)
def test_gae_is_the_naive_double_loop_whatever_the_padding(
    lengths: list[int], padding: int, gamma: float, lam: float, seed: int
) -> None:
    width = max(lengths) + padding
    mask = torch.arange(width)[None] < torch.tensor(lengths)[:, None]
    generator = torch.Generator().manual_seed(seed)
    rewards, values = (
        torch.where(mask, torch.randn(mask.shape, generator=generator, dtype=torch.float64), NAN) for _ in range(2)
    )
    got = gae(rewards, values, mask, gamma, lam)
    expected = naive_gae(rewards, values, lengths, gamma, lam)
    for row, n in enumerate(lengths):
        assert got[row, :n].tolist() == pytest.approx(expected[row], abs=1e-12)
        assert got[row, n:].abs().sum() == 0


def test_gae_by_hand() -> None:
    rewards = torch.tensor([[1.0, 0.0, 2.0, NAN], [5.0, NAN, NAN, NAN]])
    values = torch.tensor([[0.5, 1.0, 1.5, 9.0], [3.0, 9.0, 9.0, 9.0]])
    got = gae(rewards, values, MASK, 1.0, 0.5)
    # δ = 1 + 1 - 0.5 = 1.5, 0 + 1.5 - 1 = 0.5, 2 + 0 - 1.5 = 0.5; A_2 = 0.5, A_1 = 0.5 + 0.25, A_0 = 1.5 + 0.375
    assert got[0].tolist() == pytest.approx([1.875, 0.75, 0.5, 0.0])
    assert got[1].tolist() == pytest.approx([2.0, 0.0, 0.0, 0.0])
    # The wrong variant lets the padding's value follow the last token: δ_2 = 2 + 9 - 1.5.
    assert got[0, 2].item() != pytest.approx(9.5)


def test_lambda_one_and_zero_values_is_the_reward_to_go() -> None:
    rewards = torch.tensor([[1.0, -0.5, 2.0, NAN], [5.0, NAN, NAN, NAN]])
    got = gae(rewards, torch.zeros_like(rewards), MASK, 1.0, 1.0)
    assert got[0].tolist() == pytest.approx([2.5, 1.5, 2.0, 0.0])
    assert got[1].tolist() == pytest.approx([5.0, 0.0, 0.0, 0.0])


def test_token_rewards_pay_at_the_end_and_the_kl_on_the_way() -> None:
    logprobs = torch.tensor([[-1.0, -2.0, -1.0, NAN], [-3.0, NAN, NAN, NAN]], dtype=torch.float64)
    ref = torch.tensor([[-1.5, -1.0, -1.0, NAN], [-3.5, NAN, NAN, NAN]], dtype=torch.float64)
    rewards = torch.tensor([3.0, -1.0], dtype=torch.float64)
    got = token_rewards(rewards, 1.0, 2.0, 0.1, logprobs, ref, MASK)
    # -0.1 · (0.5, -1.0, 0.0) and (3 - 1)/2 at the end; -0.1 · 0.5 + (-1 - 1)/2
    assert got[0].tolist() == pytest.approx([-0.05, 0.1, 1.0, 0.0])
    assert got[1].tolist() == pytest.approx([-1.05, 0.0, 0.0, 0.0])
    sequence_kl = torch.where(MASK, logprobs - ref, 0.0).sum(-1)
    whole = constant_advantages(rewards, 1.0, 2.0, 0.1, sequence_kl, MASK)
    assert got.sum(-1).tolist() == pytest.approx(whole[:, 0].tolist())


def test_value_clipping_by_hand() -> None:
    values = torch.tensor([[1.0, 0.5, 0.1, NAN], [-1.0, NAN, NAN, NAN]], requires_grad=True)
    old = torch.tensor([[0.0, 0.0, 0.0, NAN], [0.0, NAN, NAN, NAN]])
    returns = torch.tensor([[2.0, 0.1, 1.0, NAN], [1.0, NAN, NAN, NAN]])
    got = clipped_value_loss(values, old, returns, MASK, 0.2)
    # 1.0 -> 0.2: (1 - 2)² = 1 against (0.2 - 2)² = 3.24, the clipped one; 0.5 -> 0.2: 0.16 against 0.01, the plain one;
    # 0.1 stays: (0.1 - 1)² = 0.81; -1 -> -0.2: 4 against 1.44, the plain one: away from the return, so not held.
    assert got.loss.item() == pytest.approx(3.24 + 0.16 + 0.81 + 4.0, abs=TOLERANCE)
    assert got.clipped.item() == 1
    got.loss.backward()
    assert values.grad is not None
    assert values.grad.flatten().tolist() == pytest.approx([0, 0.8, -1.8, 0, -4.0, 0, 0, 0], abs=TOLERANCE)
    # Inside the range nothing is clipped, though old + (value - old) would differ from the value by rounding.
    inside, at = torch.rand(1, 999, generator=torch.Generator().manual_seed(0)) * 0.1, torch.full((1, 999), 0.7)
    assert clipped_value_loss(at + inside, at, at * 0, torch.ones(1, 999, dtype=torch.bool), 0.2).clipped.item() == 0
    # The wrong variant takes the smaller error (1 + 0.01 + 0.81 + 1.44).
    assert got.loss.item() != pytest.approx(3.26, abs=0.1)


def test_explained_variance_by_hand() -> None:
    returns = torch.tensor([[1.0, 2.0, 3.0, NAN], [6.0, NAN, NAN, NAN]])
    # mean 3, variance (4 + 1 + 0 + 9)/4 = 3.5; R - V = (0, 1, 1, 2), mean 1, variance (1 + 0 + 0 + 1)/4 = 0.5
    values = torch.tensor([[1.0, 1.0, 2.0, NAN], [4.0, NAN, NAN, NAN]])
    assert explained_variance(values, returns, MASK) == pytest.approx(1 - 0.5 / 3.5)
    assert explained_variance(returns, returns, MASK) == pytest.approx(1.0)
    assert explained_variance(torch.full_like(returns, 7.0), returns, MASK) == pytest.approx(0.0)
    assert explained_variance(values, torch.zeros_like(returns), MASK) == 0.0


# -- the module --------------------------------------------------------------------------------------------------------


def with_values(model: GPT2LMHeadModel, *, separate: bool) -> ActorCritic:
    critic = add_critic(model, model.base_model if separate else None, [0])
    assert critic.value_head.weight.abs().sum() + critic.value_head.bias.abs().sum() == 0
    torch.nn.init.normal_(critic.value_head.weight, generator=torch.Generator().manual_seed(3))
    return critic


@pytest.mark.parametrize("separate", [False, True])
def test_values_do_not_change_with_padding(build_model: Build, separate: bool) -> None:
    critic = with_values(build_model(dtype=torch.float64), separate=separate)
    config = PPOConfig(output_dir="x")
    prompt, completion = [5, 6], [7, 8, 9]

    def values(padding: int, after: int) -> Tensor:
        ids = torch.tensor([[0] * padding + prompt])
        mask = torch.tensor([[False] * padding + [True] * len(prompt)])
        tokens = torch.tensor([completion + [0] * after])
        found = completion_forward(critic, ids, mask, tokens, config).values
        assert found is not None
        return found[0, : len(completion)].detach()

    plain = values(0, 0)
    assert plain.std() > 0
    for padding, after in [(1, 0), (3, 2), (0, 4)]:
        assert torch.allclose(values(padding, after), plain, atol=1e-12)
    # V_t sees the prefix before token t: another last token changes nothing, another first one all that follow it.
    completion = [7, 8, 20]
    assert torch.allclose(values(0, 0), plain, atol=1e-12)
    completion = [20, 8, 9]
    assert (values(0, 0) - plain).abs()[1:].min() > 1e-6
    assert (values(0, 0) - plain).abs()[0] < 1e-12


def test_a_model_without_hidden_states_is_refused(build_model: Build) -> None:
    class Bare(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 2)

        def forward(self, input_ids: Tensor, output_hidden_states: bool = False) -> object:
            return object()

    with pytest.raises(InputError, match="returns no hidden states"):
        add_critic(Bare(), None, [0])


# -- runs --------------------------------------------------------------------------------------------------------------


def configure(directory: Path, **options: Any) -> PPOConfig:
    small: dict[str, Any] = {
        "iteration_batch_size": 128, "max_iteration_batch_size": 128, "minibatch_size": 32, "max_completion_length": 12,
        "learning_rate": 1e-3, "num_eval_samples": 32, "normalization_samples": 256, "max_iterations": 4,
        "kl_budget": 50.0, "ladder_step": 1.0, "quiet": True, "critic": "shared",
    }  # fmt: skip
    return PPOConfig(output_dir=str(directory), **(small | options))


def lines(directory: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if not key.startswith("seconds/")} for row in rows]


def train(model: Any, tokenizer: Any, directory: Path, **options: Any) -> list[dict[str, Any]]:
    PPOTrainer(model, full_stop, configure(directory, **options), processing_class=tokenizer).train()
    return lines(directory)


@pytest.mark.parametrize("critic", ["shared", "separate"])
def test_the_critic_learns_and_so_does_the_policy(
    build_model: Build, tokenizer: Any, tmp_path: Path, critic: str
) -> None:
    """What a completion earns depends on its prompt above all, so a critic that learns can tell most of it."""

    def by_prompt(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
        return [c.count(".") + 3.0 * (p == "my lord,") for p, c in zip(prompts, completions, strict=True)]

    options = {"critic": critic, "critic_learning_rate": 2e-2, "max_iterations": 4}
    trainer = PPOTrainer(
        build_model(),
        by_prompt,
        configure(tmp_path / "run", **options),
        train_dataset=[{"prompt": "my lord,"}, {"prompt": "oh"}],
        processing_class=tokenizer,
    )
    trainer.train()
    logged = lines(tmp_path / "run")
    assert logged[0]["explained_variance"] == 0.0  # the head is zero
    assert logged[0]["ratio_first_update_max_dev"] < 1e-4
    assert logged[2]["explained_variance"] > 0.4
    assert logged[0]["value_loss"] > 0
    assert logged[-1]["reward"] > logged[0]["reward"] + 3 * logged[0]["reward_se"]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["resolved"]["critic"] == critic


@pytest.mark.parametrize("critic", ["shared", "separate"])
def test_the_policy_waits_for_its_critic(build_model: Build, tokenizer: Any, tmp_path: Path, critic: str) -> None:
    def by_prompt(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
        return [c.count(".") + 3.0 * (p == "my lord,") for p, c in zip(prompts, completions, strict=True)]

    def trainer(name: str, **more: Any) -> PPOTrainer:
        options = {"critic": critic, "critic_learning_rate": 2e-2, "critic_warmup_iterations": 2, **more}
        rows, args = [{"prompt": "my lord,"}, {"prompt": "oh"}], configure(tmp_path / name, **options)
        return PPOTrainer(build_model(), by_prompt, args, train_dataset=rows, processing_class=tokenizer)

    with contextlib.closing(first := trainer("first")):
        first.step(first.rollout())
    assert not any(parameter in first.optimizer.state for parameter in first.optimizer.param_groups[0]["params"])
    (whole := trainer("whole")).train()
    logged = lines(tmp_path / "whole")
    assert [line["kl_per_completion"] for line in logged[:3]] == [0.0, 0.0, 0.0]
    assert logged[3]["kl_per_completion"] > 0.0
    assert [line["learning_rate"] for line in logged[:3]] == [0.0, 0.0, 1e-3]
    assert [line["controller"] for line in logged[:2]] == [None, None]  # no ratio moved: that says nothing of the batch
    assert logged[2]["explained_variance"] > 0.3
    trainer("cut", max_iterations=3, critic_warmup_iterations=2).train()  # its last state has Adam's of two iterations
    (again := trainer("cut", resume=True)).train()
    assert lines(tmp_path / "cut") == logged
    for name, parameter in again.learner.state_dict().items():
        assert torch.equal(parameter, whole.learner.state_dict()[name]), name


def test_lambda_one_from_a_zero_head_is_the_critic_free_advantage(
    build_model: Build, tokenizer: Any, tmp_path: Path
) -> None:
    """At β = 0 the reward-to-go is the reward at every token: the first iteration's advantages are the same."""
    free = train(build_model(), tokenizer, tmp_path / "free", critic="none", max_iterations=1)
    with_critic = train(build_model(), tokenizer, tmp_path / "critic", lam=1.0, max_iterations=1)
    damped = train(build_model(), tokenizer, tmp_path / "damped", lam=0.5, max_iterations=1)
    for key in ("advantage_mean", "advantage_std"):
        assert with_critic[0][key] == pytest.approx(free[0][key], abs=1e-9)
    assert damped[0]["advantage_std"] < 0.9 * free[0]["advantage_std"]
    assert free[0]["explained_variance"] is None


def test_a_kl_coefficient_holds_a_policy_with_a_critic_back(build_model: Build, tokenizer: Any, tmp_path: Path) -> None:
    free = train(build_model(), tokenizer, tmp_path / "free", max_iterations=5)
    held = train(build_model(), tokenizer, tmp_path / "held", max_iterations=5, beta=3.0)
    assert held[-1]["kl_per_completion"] < 0.5 * free[-1]["kl_per_completion"]


@pytest.mark.parametrize("critic", ["shared", "separate"])
def test_resumed_with_a_critic_even_after_a_torn_state(
    build_model: Build, tokenizer: Any, tmp_path: Path, critic: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {"critic": critic, "beta": 0.05, "iteration_batch_size": 64}
    whole = train(build_model(), tokenizer, tmp_path / "whole", max_iterations=5, **options)
    train(build_model(), tokenizer, tmp_path / "cut", max_iterations=3, **options)
    parameters = tmp_path / "cut" / "state" / "000003" / "parameters.safetensors"
    parameters.write_bytes(parameters.read_bytes()[:-100])
    cut = train(build_model(), tokenizer, tmp_path / "cut", max_iterations=5, resume=True, **options)
    assert "000003 is torn" in capsys.readouterr().err
    assert cut == whole
    for name in ("parameters.safetensors", "optimizer.safetensors"):
        a, b = (tmp_path / run / "state" / "000005" / name for run in ("whole", "cut"))
        assert a.read_bytes() == b.read_bytes()
    saved = load_file(tmp_path / "whole" / "state" / "000005" / "parameters.safetensors")
    assert saved["value_head.weight"].abs().sum() > 0
    with pytest.raises(InputError, match="--critic: got none with --resume"):
        train(build_model(), tokenizer, tmp_path / "cut", resume=True, **{**options, "critic": "none"})


def test_lora_and_last_layer_with_a_critic(build_model: Build, tokenizer: Any, tmp_path: Path) -> None:
    config = LoraConfig(r=4, target_modules=["c_attn"], task_type="CAUSAL_LM", fan_in_fan_out=True)
    for critic in ("shared", "separate"):
        trainer = PPOTrainer(
            build_model(),
            full_stop,
            configure(tmp_path / critic, critic=critic, max_iterations=2),
            processing_class=tokenizer,
            peft_config=config,
        )
        trainer.train()
        logged = lines(tmp_path / critic)
        assert logged[0]["kl_per_completion"] == 0.0
        assert logged[-1]["kl_per_completion"] > 0.0
        moved = [name for name, p in trainer.model.named_parameters() if p.requires_grad]
        assert all("lora" in name for name in moved)
        assert trainer.learner.value_head.weight.abs().sum() > 0
    last = train(build_model(), tokenizer, tmp_path / "last", train_scope="last_layer", max_iterations=2)
    assert last[-1]["kl_per_completion"] > 0


@pytest.fixture
def reward_directory(build_model: Build, tokenizer: Any, tmp_path: Path) -> Path:
    """A token reward model of the same vocabulary, other weights, two tokens more."""
    import copy

    model, own = build_model(), copy.deepcopy(tokenizer)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    add_reward_tokens(model, own, 0)
    reward = TokenRewardModel(model, own, target="positive")
    return reward.save(tmp_path / "reward", {"kind": "token", "target": "positive"})


def test_a_separate_critic_starts_from_a_reward_model(
    build_model: Build, tokenizer: Any, tmp_path: Path, reward_directory: Path
) -> None:
    options = {"critic": "separate", "critic_model_path": str(reward_directory)}
    trainer = PPOTrainer(build_model(), full_stop, configure(tmp_path / "run", **options), processing_class=tokenizer)
    theirs = TokenRewardModel.from_pretrained(reward_directory, device="cpu").model.base_model.state_dict()
    ours = trainer.learner.trunk.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert not torch.equal(ours["h.0.mlp.c_fc.weight"], trainer.model.state_dict()["transformer.h.0.mlp.c_fc.weight"])
    assert trainer.learner.value_head.weight.abs().sum() == 0
    trainer.train()
    assert trainer.learner.value_head.weight.abs().sum() > 0
    trained = trainer.learner.trunk.state_dict()
    assert not torch.equal(trained["h.0.mlp.c_fc.weight"], theirs["h.0.mlp.c_fc.weight"])


def test_a_reward_model_with_other_token_ids_is_refused(
    build_model: Build, tokenizer: Any, tmp_path: Path, reward_directory: Path
) -> None:
    import copy

    other = copy.deepcopy(tokenizer)
    other.add_tokens(["ab"])
    model = build_model()
    model.resize_token_embeddings(len(other), mean_resizing=False)
    options = {"critic": "separate", "critic_model_path": str(reward_directory)}
    with pytest.raises(InputError, match=r"--critic_model_path: .* no 'ab' of the same id"):
        PPOTrainer(model, full_stop, configure(tmp_path / "run", **options), processing_class=other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"critic": "shared", "critic_model_path": "x"}, "--critic_model_path: got x; expected --critic separate"),
        ({"gamma": 0.0}, "--gamma"),
        ({"lam": 1.5}, "--lam"),
        ({"vf_coef": 0.0}, "--vf_coef"),
        ({"critic_learning_rate": 0.0}, "--critic_learning_rate"),
        ({"critic": "none", "critic_warmup_iterations": 1}, "--critic_warmup_iterations: got 1; expected 0 without"),
        ({"critic_warmup_iterations": 4}, "--critic_warmup_iterations: got 4; expected less than --max_iterations"),
        ({"critic": "two"}, "--critic: got 'two'; expected none, shared or separate"),
        ({"critic": "separate", "critic_model_path": "./nowhere"}, "no such directory"),
    ],
)
def test_bad_critic_options_are_one_line(
    build_model: Build, tokenizer: Any, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        PPOTrainer(build_model(), full_stop, configure(tmp_path / "run", **options), processing_class=tokenizer)
