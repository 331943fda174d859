"""The optimum with a KL coefficient, by enumeration: π* ∝ ref · exp(reward / (scale · β)); another loss misses it.

Four tokens, of which one ends a completion, and at most four places: 1 + 3 + 9 + 27 + 81 = 121 completions of unequal
length, so that every probability can be written down.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from rlhf import PPOConfig, PPOTrainer
from rlhf.ppo import update
from rlhf.ppo.chosen import ChosenTokens
from rlhf.ppo.normalization import Normalization
from rlhf.ppo.objective import ClippedLoss, clipped_loss, gathered, masked_sum

LENGTH, VOCABULARY, END = 4, 4, 0
BETA, SCALE, OFFSET = 0.5, 2.0, 1.9


def completions() -> list[tuple[int, ...]]:
    """Every completion: ended at any place, or cut at LENGTH."""
    tokens = range(1, VOCABULARY)
    ended = [(*body, END) for n in range(LENGTH) for body in itertools.product(tokens, repeat=n)]
    return ended + list(itertools.product(tokens, repeat=LENGTH))


SPACE = completions()


def reward(completion_ids: list[list[int]], **_: Any) -> list[float]:
    """Two a token 1, less one a token 3; one more for ending early."""
    return [2.0 * ids.count(1) - ids.count(3) + float(len(ids) < LENGTH) for ids in completion_ids]


def probabilities(model: Any) -> Tensor:
    """P(completion) of each member of SPACE, (121,) float64."""
    ids = torch.tensor([[*row, *[END] * (LENGTH - len(row))] for row in SPACE])
    mask = torch.tensor([[i < len(row) for i in range(LENGTH)] for row in SPACE])
    start = torch.zeros(len(SPACE), 1, dtype=torch.long)
    with torch.no_grad():
        logp = model(torch.cat([start, ids[:, :-1]], 1)).logits.double().log_softmax(-1)
    return torch.where(mask, gathered(logp, ids), 0.0).sum(-1).exp()


def total_variation(p: Tensor, q: Tensor) -> float:
    return float((p - q).abs().sum() / 2)


class Run(NamedTuple):
    before: Tensor
    after: Tensor


def train(four_tokens: Any, directory: Path, beta: float) -> Run:
    torch.manual_seed(5)
    shape = GPT2Config(
        vocab_size=VOCABULARY, n_positions=8, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0,
        initializer_range=0.2, tie_word_embeddings=False, resid_pdrop=0.0, attn_pdrop=0.0, embd_pdrop=0.0,
    )  # fmt: skip
    model = GPT2LMHeadModel(shape).eval()
    before = probabilities(model)
    assert float(before.sum()) == pytest.approx(1.0)
    config = PPOConfig(
        output_dir=str(directory), iteration_batch_size=1024, max_iteration_batch_size=1024, minibatch_size=256,
        per_device_train_batch_size=256, per_device_generation_batch_size=1024, max_completion_length=LENGTH,
        num_eval_samples=8, max_iterations=1000, kl_budget=1000.0, ladder_step=30.0, beta=beta, quiet=True,
    )  # fmt: skip
    trainer = PPOTrainer(
        model, reward, config, processing_class=four_tokens, reward_constants=Normalization(OFFSET, SCALE, 1, "given")
    )
    for rate in [2e-3] * 20 + [7e-4] * 15 + [2e-4] * 10:
        trainer.controller.learning_rate = rate
        trainer.controller.iteration_batch_size = 1024
        trainer.step(trainer.rollout())
    trainer.close()
    return Run(before, probabilities(model))


def optimum(reference: Tensor) -> Tensor:
    """π* of (reward - offset)/scale - β log(π/ref)."""
    tilted = reference * (torch.tensor(reward([list(row) for row in SPACE])).double() / (SCALE * BETA)).exp()
    return tilted / tilted.sum()


@pytest.mark.slow
def test_the_policy_becomes_the_gibbs_distribution(four_tokens: Any, tmp_path: Path) -> None:
    assert len(SPACE) == 121
    run = train(four_tokens, tmp_path / "run", BETA)
    best = optimum(run.before)
    print("TV(ref, pi*)", total_variation(run.before, best), "TV(trained, pi*)", total_variation(run.after, best))
    assert total_variation(run.before, best) >= 0.4
    assert total_variation(run.after, best) < 0.05


@pytest.mark.slow
def test_k3_in_the_loss_ends_elsewhere(four_tokens: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original: dict[str, Any] = {}
    seen: dict[str, Tensor] = {}
    begin = PPOTrainer.begin

    def remember(trainer: PPOTrainer) -> None:
        original["model"] = trainer.ref_model
        begin(trainer)

    plain = ChosenTokens.forward

    def with_reference(module: ChosenTokens, *given: Any) -> Any:
        ids = given[2]
        with torch.no_grad():
            start = torch.zeros(len(ids), 1, dtype=torch.long)
            seen["ref"] = gathered(original["model"](torch.cat([start, ids[:, :-1]], 1)).logits.log_softmax(-1), ids)
        return plain(module, *given)

    def with_k3(logprobs: Tensor, old: Tensor, advantages: Tensor, mask: Tensor, *others: Any) -> ClippedLoss:
        log_r = torch.where(mask, seen["ref"] - logprobs, 0.0)
        clipped = clipped_loss(logprobs, old, advantages, mask, *others)
        return clipped._replace(loss=clipped.loss + BETA * masked_sum(log_r.exp() - 1 - log_r, mask))

    monkeypatch.setattr(PPOTrainer, "begin", remember)
    monkeypatch.setattr(ChosenTokens, "forward", with_reference)
    monkeypatch.setattr(update, "clipped_loss", with_k3)
    run = train(four_tokens, tmp_path / "run", 0.0)
    distance = total_variation(run.after, optimum(run.before))
    print("k3 in the loss: TV(trained, pi*)", distance)
    assert distance > 0.1
