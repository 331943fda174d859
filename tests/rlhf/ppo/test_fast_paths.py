"""Reading by trunk and head gives what the plain forward pass gives: values and gradients, in float64 to rounding."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from rewards.rules import full_stop
from rlhf import PPOConfig, PPOTrainer
from rlhf.foundation.frozen_trunk import SharedTrunk, frozen_trunk
from rlhf.ppo import chosen, forward
from rlhf.ppo.chosen import Chosen, ChosenTokens, head_logprobs
from rlhf.ppo.critic import add_critic
from rlhf.ppo.measuring import Measurer
from rlhf.ppo.objective import selected_logprobs
from rlhf.ppo.policy import add_adapter, reference_of, train_last_layer_only

from .test_architectures import ARCHITECTURES, COMMON

VOCABULARY = COMMON["vocab_size"]
SPLIT = ("llama", "qwen2", "gpt2", "gpt_neox", "stablelm", "gemma")
SCALED = ("gemma2", "cohere")  # what stands behind their head is no part of a trunk and a head
TRAINED = ("all", "last layer", "lora", "shared critic", "separate critic")


def model_of(kind: str, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    config = AutoConfig.for_model(kind, **(COMMON | ARCHITECTURES[kind]))
    return AutoModelForCausalLM.from_config(config).double().eval()


def learner_of(kind: str, trained: str) -> tuple[Any, Any]:
    """What is trained and the original, which the first has left by a step already."""
    from peft import LoraConfig

    model = model_of(kind)
    if trained == "lora":
        model = add_adapter(model, LoraConfig(r=2, target_modules="all-linear"), seed=1)
    elif trained == "last layer":
        train_last_layer_only(model)
    reference = reference_of(model)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    if trained.endswith("critic"):
        trunk = model_of(kind, 5).base_model if trained == "separate critic" else None
        model = add_critic(model, trunk, [1, 2])
        nn.init.normal_(model.value_head.weight)
    return model, reference


def batch(padded: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Five completions: one of a single token, one that ends in the middle, others to the last place."""
    generator = torch.Generator().manual_seed(7)
    prompt_ids = torch.randint(1, VOCABULARY, (5, 4), generator=generator)
    prompt_mask = torch.ones(5, 4, dtype=torch.bool)
    if padded:
        prompt_mask[1, :2] = prompt_mask[3, :3] = False
    ids = torch.randint(1, VOCABULARY, (5, 6), generator=generator)
    lengths = torch.tensor([6, 1, 3, 6, 5])
    mask = torch.arange(6) < lengths[:, None]
    return prompt_ids, prompt_mask, torch.where(mask, ids, 0), mask


def options(**changes: Any) -> PPOConfig:
    return PPOConfig(output_dir="-", dtype="float64", **changes)


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function after which no model is split."""

    def never() -> None:
        monkeypatch.setattr(forward, "trunk_and_head", lambda model: None)

    return never


def forwarded(model: Any, config: PPOConfig, data: tuple[Tensor, ...]) -> tuple[Chosen, dict[str, Tensor]]:
    """What the update's pass gives, and its gradients for a loss that weights every real token differently."""
    model.zero_grad()
    found = ChosenTokens(model, config)(*data)
    weights = torch.randn(data[3].shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    loss = torch.where(data[3], found.logprobs * weights, 0.0).sum()
    if found.values is not None:
        loss = loss + torch.where(data[3], found.values * weights.flip(1), 0.0).sum()
    loss.backward()
    return found, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", SPLIT)
@pytest.mark.parametrize("padded", [False, True], ids=["unpadded", "padded"])
@pytest.mark.parametrize("trained", TRAINED)
def test_the_update_and_the_measures_are_those_of_the_plain_path(
    kind: str, padded: bool, trained: str, whole: Any
) -> None:
    data, config = batch(padded), options(suppress_tokens=[0])
    data[2].clamp_(min=1)  # the token that is never sampled
    learner, reference = learner_of(kind, trained)
    policy = learner.policy if trained.endswith("critic") else learner
    critic = learner if trained.endswith("critic") else None
    assert forward.split_of(learner) is not None
    found, gradients = forwarded(learner, config, data)
    measured = Measurer(policy, reference, config, critic)(*data)
    whole()
    expected, plain = forwarded(learner, config, data)
    expected_measures = Measurer(policy, reference, config, critic)(*data)
    near = {"rtol": 1e-9, "atol": 1e-12}
    torch.testing.assert_close(found.logprobs[data[3]], expected.logprobs[data[3]], **near)
    if critic:
        torch.testing.assert_close(found.values, expected.values, **near)
    assert gradients.keys() == plain.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(gradients[name], gradient, msg=name, **near)
    for got, wanted in zip(measured, expected_measures, strict=True):
        assert got.keys() == wanted.keys()
        for name, value in wanted.items():
            torch.testing.assert_close(got[name], value, msg=name, **near)
    assert (measured.sums["kl"] > 0).all()


@pytest.mark.parametrize("kind", SCALED)
def test_a_model_that_bends_its_logits_is_read_as_a_whole(kind: str) -> None:
    changes = {"logit_scale": 0.5} if kind == "cohere" else {}
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **(COMMON | ARCHITECTURES[kind] | changes))
    model = AutoModelForCausalLM.from_config(config).double().eval()
    assert forward.split_of(model) is None


def test_the_untouched_policy_is_exactly_the_original() -> None:
    model = model_of("llama")
    measured = Measurer(model, reference_of(model), options(), None)(*batch(padded=True))
    assert (measured.sums["kl"] == 0).all()
    assert (measured.sums["k1"] == 0).all()


@pytest.mark.parametrize("frozen", [False, True], ids=["trained head", "frozen head"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("memory", ["all held", "a tile at a time"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probs_by_the_head(
    frozen: bool, bias: bool, memory: str, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(2)
    head = nn.Linear(8, 50, bias=bias).double().requires_grad_(not frozen)
    states, ids = torch.randn(37, 8, dtype=torch.float64, requires_grad=True), torch.randint(1, 50, (37,))
    config = options(temperature=temperature, suppress_tokens=[0, 3])
    ids[ids == 3] = 4
    if memory != "all held":
        monkeypatch.setattr(chosen, "logits_bytes", lambda *_: 50 * 8 * 10 // chosen.KEPT_TIMES)  # ten tokens
    weights = torch.randn(37, dtype=torch.float64)
    wanted = (states, *(() if frozen else head.parameters()))

    logits = head(states).index_fill(-1, torch.tensor([0, 3]), -1e9) / temperature
    plain = selected_logprobs(logits[None], ids[None])[0]
    expected = torch.autograd.grad((plain * weights).sum(), wanted)
    found = head_logprobs(states, head, ids, config)
    torch.testing.assert_close(found, plain, rtol=1e-12, atol=1e-12)
    for once in (True, False):  # a graph that is kept may be gone through again
        got = torch.autograd.grad((found * weights).sum(), wanted, retain_graph=once)
        for gradient, of_plain in zip(got, expected, strict=True):
            torch.testing.assert_close(gradient, of_plain, rtol=1e-10, atol=1e-12)


def test_no_real_token_gives_gradients_of_zero() -> None:
    """A process whose share of a minibatch has been left out must still meet the others with a gradient."""
    learner, _ = learner_of("llama", "all")
    prompt_ids, prompt_mask, ids, mask = batch(padded=False)
    found = ChosenTokens(learner, options())(prompt_ids, prompt_mask, ids, torch.zeros_like(mask))
    found.logprobs.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in learner.parameters())


# -- the last block alone is trained -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*SPLIT, "gemma3_text", "mistral"])
@pytest.mark.parametrize("critic", [None, "shared", "separate"])
def test_a_frozen_trunk_is_read_once(kind: str, critic: str | None) -> None:
    """The original's measures and the update's gradients from what the policy's pass kept, bit for bit."""
    policy, reference = learner_of(kind, "last layer")
    shared = SharedTrunk.of(policy, reference)
    assert shared is not None
    learner: Any = policy
    if critic is not None:
        learner = add_critic(policy, model_of(kind, 5).base_model if critic == "separate" else None, [1, 2])
        nn.init.normal_(learner.value_head.weight)
    actor = learner if critic else None
    data, config = batch(padded=True), options(train_scope="last_layer")
    plain = Measurer(policy, reference, config, actor)(*data)
    passes = [0, 0]
    for number in range(2):
        below = shared[number].blocks[0]
        below.register_forward_hook(lambda *_, number=number: passes.__setitem__(number, passes[number] + 1))
    kept: list[Tensor] = []
    with shared.policy.keeping(kept):
        found = Measurer(policy, reference, config, actor, shared)(*data)
    assert passes == [1, 0]
    again_measured = Measurer(policy, reference, config, actor, shared)(*data, states=kept[0])
    assert passes == [1, 0]
    assert all(torch.equal(again_measured.sums[name], value) for name, value in found.sums.items())
    for got, wanted in zip(found, plain, strict=True):
        assert all(torch.equal(got[name], value) for name, value in wanted.items())  # type: ignore[index]
    assert (found.sums["kl"] > 0).all()
    expected, gradients = forwarded(learner, config, data)
    assert passes == [2, 0]
    learner.zero_grad()
    again = ChosenTokens(learner, config, shared)(*data, kept[0])
    assert passes == [2, 0]
    assert torch.equal(again.logprobs, expected.logprobs)
    weights = torch.randn(data[3].shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    loss = torch.where(data[3], again.logprobs * weights, 0.0).sum()
    if again.values is not None:
        loss = loss + torch.where(data[3], again.values * weights.flip(1), 0.0).sum()
    loss.backward()
    for name, parameter in learner.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, gradients[name], rtol=0, atol=0, msg=name)
    assert [type(block) for block in shared.policy.blocks] == [type(shared.policy.blocks[-1])] * 2


def test_a_trunk_that_looks_past_its_last_block_is_not_shared() -> None:
    """A block that is fed from below by another way than its input would be given the wrong text."""
    model = model_of("llama")
    last, embed = model.model.layers[-1], model.model.embed_tokens

    class Peeking(nn.Module):
        def forward(self, hidden_states: Tensor, **named: Any) -> Tensor:
            return last(hidden_states, **named) + seen[0]  # type: ignore[no-any-return]

    seen: list[Tensor] = []
    embed.register_forward_hook(lambda _, __, output: seen.insert(0, output))
    model.model.layers[-1] = Peeking()
    assert frozen_trunk(model) is None
    assert frozen_trunk(model_of("gemma2")) is None  # not to be read by trunk and head
    torch.manual_seed(0)
    one = AutoConfig.for_model("llama", **(COMMON | ARCHITECTURES["llama"] | {"num_hidden_layers": 1}))
    assert frozen_trunk(AutoModelForCausalLM.from_config(one).eval()) is None


def test_a_run_on_the_last_layer_is_that_of_the_plain_path(
    build_model: Any, tokenizer: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(name: str) -> dict[str, Tensor]:
        config = PPOConfig(
            output_dir=str(tmp_path / name), train_scope="last_layer", dtype="float64", max_iterations=3,
            iteration_batch_size=32, max_iteration_batch_size=32, minibatch_size=16, max_completion_length=6,
            num_eval_samples=8, normalization_samples=16, learning_rate=1e-2, quiet=True, use_cpu=True,
        )  # fmt: skip
        trainer = PPOTrainer(build_model().double(), full_stop, config, processing_class=tokenizer)
        trainer.train()
        lines.append(json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[-1]))
        return {n: p.detach() for n, p in trainer.model.named_parameters() if p.requires_grad}

    lines: list[dict[str, Any]] = []
    fast = run("fast")
    monkeypatch.setattr(SharedTrunk, "of", lambda *_: None)
    monkeypatch.setattr(forward, "trunk_and_head", lambda model: None)
    plain = run("plain")
    assert lines[0]["kl_per_completion"] == pytest.approx(lines[1]["kl_per_completion"], rel=1e-9)
    assert lines[0]["kl_per_completion"] > 1e-3
    for name, parameter in plain.items():
        torch.testing.assert_close(fast[name], parameter, rtol=1e-8, atol=1e-10, msg=name)
