"""Padding, its side and its amount change nothing: losses, gradients, advantages, statistics, measurements, sampling.

Ragged batches are drawn by hypothesis; what stands in the padding is garbage (NaN where the type allows it).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from rlhf import PPOConfig
from rlhf.language_model.endings import Ending
from rlhf.language_model.sampler import generate, pad_prompts
from rlhf.ppo import objective
from rlhf.ppo.advantages import Targets
from rlhf.ppo.forward import completion_logits
from rlhf.ppo.normalization import Normalization
from rlhf.ppo.rollout import Rollout
from rlhf.ppo.statistics import distinct_2, rollout_statistics

TOLERANCE = 1e-9  # float64; sums in another order differ by rounding
EPSILON = 0.2
NAN = math.nan
PROPERTY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

numbers = st.floats(-3, 3, allow_nan=False, width=32)


class Ragged(NamedTuple):
    """Rows of different lengths, each a list of (log-prob, old log-prob, reference's, advantage)."""

    rows: list[list[tuple[float, float, float, float]]]

    def columns(self, left: int, right: int) -> tuple[list[Tensor], Tensor]:
        """Four tensors and the mask (B, left + longest + right): garbage before and behind the real tokens."""
        width = left + max(map(len, self.rows)) + right
        tensors = [torch.full((len(self.rows), width), NAN, dtype=torch.float64) for _ in range(4)]
        mask = torch.zeros(len(self.rows), width, dtype=torch.bool)
        for i, row in enumerate(self.rows):
            mask[i, left : left + len(row)] = True
            for column, tensor in enumerate(tensors):
                tensor[i, left : left + len(row)] = torch.tensor([token[column] for token in row]).double()
        return tensors, mask


ragged = st.lists(
    st.lists(st.tuples(numbers, numbers, numbers, numbers), min_size=1, max_size=5), min_size=2, max_size=4
).map(Ragged)
padding = st.tuples(st.integers(0, 4), st.integers(0, 4))


def outcomes(batch: Ragged, left: int, right: int) -> list[float]:
    """Every loss and statistic of the objective on a batch with that padding, and the gradient of each real token."""
    (logprobs, old, ref, advantages), mask = batch.columns(left, right)
    logprobs.requires_grad_()
    loss = objective.clipped_loss(logprobs, old, torch.where(mask, advantages, 0.0), mask, EPSILON)
    loss.loss.backward()
    assert logprobs.grad is not None
    values = objective.clipped_value_loss(logprobs.detach(), old, ref, mask, EPSILON)
    rewards = torch.arange(len(mask), dtype=torch.float64)
    k1, k3 = objective.kl_k1(logprobs.detach(), ref, mask), objective.kl_k3(logprobs.detach(), ref, mask)
    constant = objective.constant_advantages(rewards, 1.0, 2.0, 0.3, k1, mask)
    paid = objective.token_rewards(rewards, 1.0, 2.0, 0.3, logprobs.detach(), ref, mask)
    tensors = [
        *loss[:1], *(x.double() for x in loss[1:]), *(x.double() for x in values), logprobs.grad[mask], k1, k3,
        constant[mask], paid[mask], objective.whiten(advantages, mask)[mask], objective.masked_mean(advantages, mask),
        objective.gae(paid, old, mask, 0.9, 0.8)[mask] if left == 0 else torch.zeros(int(mask.sum())),
    ]  # fmt: skip
    flat = [float(x) for tensor in tensors for x in tensor.detach().reshape(-1)]
    return [*flat, objective.explained_variance(old, ref, mask)]


@PROPERTY
@given(batch=ragged, sides=padding)
def test_losses_and_statistics_of_the_objective(batch: Ragged, sides: tuple[int, int]) -> None:
    bare, padded = outcomes(batch, 0, 0), outcomes(batch, *sides)
    if sides[0]:  # GAE is defined on right-padded completions; elsewhere its place is 0 on both
        count = sum(map(len, batch.rows))
        bare[-1 - count : -1] = [0.0] * count
    assert padded == pytest.approx(bare, abs=TOLERANCE)


positive = st.floats(0.5, 2, width=32)
uneven = st.tuples(
    st.lists(st.tuples(positive, positive), min_size=1, max_size=3),
    st.lists(st.tuples(positive, positive), min_size=4, max_size=6),
)


@PROPERTY
@given(batch=uneven)
def test_the_wrong_variants_do_change(batch: tuple[list[tuple[float, float]], ...]) -> None:
    """Mask dropped, mean over padding, mean of row means, sign flipped, ratio upside down: none passes for right."""
    rows = Ragged([[(0.0, step, 0.0, advantage) for step, advantage in row] for row in batch])
    (logprobs, old, _, advantages), mask = rows.columns(0, 2)
    filled, everywhere = torch.where(mask, advantages, 0.0), torch.ones_like(mask)
    right = float(objective.masked_mean(advantages, mask))
    assert float(filled.mean()) < right - 1e-3  # over padding too
    by_row = filled.sum(-1) / mask.sum(-1)
    if abs(float(by_row[0] - by_row[1])) > 1e-3:
        assert float(by_row.mean()) != pytest.approx(right, abs=1e-6)
    garbage = torch.where(mask, logprobs, 0.7)  # the padding's own log-probs, where the mask is dropped
    old = torch.where(mask, old, 0.0)
    kept, dropped = (objective.clipped_loss(garbage, old, filled, m, EPSILON) for m in (mask, everywhere))
    assert int(dropped.outside) > int(kept.outside)
    assert float(dropped.approx_kl) > float(kept.approx_kl) + 0.1
    k1, k1_dropped = (float(objective.kl_k1(garbage, old, m).sum()) for m in (mask, everywhere))
    assert k1_dropped > k1 + 0.1
    # Every ratio is below 1 - ε and every advantage positive: the loss is -Σ r A, and nothing binds.
    expected = -float((torch.where(mask, (logprobs - old).exp(), 0.0) * filled).sum())
    assert float(kept.loss) == pytest.approx(expected, abs=TOLERANCE)
    assert -float(kept.loss) > 0 > float(kept.loss)  # the sign
    upside_down = objective.clipped_loss(old, garbage, filled, mask, EPSILON)
    assert int(upside_down.binding) > int(kept.binding) == 0


def rollout_of(batch: Ragged, right: int) -> tuple[Rollout, Targets]:
    """A rollout whose numbers come from the batch, its completions right-padded as the worker leaves them."""
    (logprobs, old, ref, advantages), mask = batch.columns(0, right)
    clean = [torch.where(mask, x, 0.0) for x in (logprobs, old, ref, advantages)]
    ids = torch.where(mask, (clean[0].abs() * 7).long() + 1, 0)
    count = len(mask)
    k1 = objective.kl_k1(clean[0], clean[2], mask)
    rollout = Rollout(
        prompts=[""] * count, completions=[str(row) for row in batch.rows],
        prompt_ids=torch.zeros(count, 1, dtype=torch.long), prompt_mask=torch.ones(count, 1, dtype=torch.bool),
        completion_ids=ids, completion_mask=mask, rewards=torch.arange(count, dtype=torch.float64),
        old_logprobs=clean[1], sampler_logprobs=clean[1], kl=k1.abs(), k1=k1,
        k3=objective.kl_k3(clean[0], clean[2], mask), entropy=clean[3].abs().sum(-1), end_token_ids=(0,),
        ended=Ending((0,)).ended(ids, mask, [[0]] * len(ids)),
        vocabulary=8,
    )  # fmt: skip
    return rollout, Targets(clean[3], mask)


@PROPERTY
@given(batch=ragged, right=st.integers(0, 4))
def test_statistics_of_a_rollout(batch: Ragged, right: int) -> None:
    constants = Normalization(0.5, 2.0, 8, "given")
    bare, padded = (rollout_statistics(*rollout_of(batch, n), constants) for n in (0, right))
    for name in bare:
        # Whether a completion was cut is read from the limit on its length, which the width is.
        if name != "completions/clipped_ratio" and bare[name] is not None:
            assert padded[name] == pytest.approx(bare[name], abs=TOLERANCE, nan_ok=True), name


def test_pairs_across_padding_do_not_count() -> None:
    ids, mask = torch.tensor([[5, 6, 0, 0], [5, 6, 5, 6]]), torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]]).bool()
    assert distinct_2(ids, mask) == 2 / 4  # 56 | 56 65 56
    assert distinct_2(ids, torch.ones_like(mask)) == 4 / 6  # the wrong variant also sees 60 and 00


@pytest.fixture(scope="module")
def language_model() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    shape = GPT2Config(
        vocab_size=11, n_positions=32, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0,
        initializer_range=0.4,
    )  # fmt: skip
    return GPT2LMHeadModel(shape).double().eval()


prompts = st.lists(st.lists(st.integers(1, 10), min_size=1, max_size=5), min_size=1, max_size=4)


@settings(PROPERTY, max_examples=25)
@given(rows=prompts, extra=st.integers(0, 5), behind=st.integers(0, 4), seed=st.integers(0, 99))
def test_scoring_and_sampling(
    language_model: GPT2LMHeadModel, rows: list[list[int]], extra: int, behind: int, seed: int
) -> None:
    """Each row alone without padding, and in a batch with `extra` places before it and `behind` after it."""
    uniform = np.random.default_rng(seed).random((len(rows), 6))
    alone = [
        generate(language_model, [row], uniform[i : i + 1], ending=Ending((0,)), pad_token_id=0)
        for i, row in enumerate(rows)
    ]
    together = generate(language_model, rows, uniform, ending=Ending((0,)), pad_token_id=0)
    assert torch.equal(together.completion_ids, torch.cat([one.completion_ids for one in alone]))
    assert torch.equal(together.completion_mask, torch.cat([one.completion_mask for one in alone]))
    config = PPOConfig(output_dir="-")
    prompt_ids, prompt_mask = pad_prompts(rows, 0)
    prompt_ids = torch.nn.functional.pad(prompt_ids, (extra, 0), value=7)  # garbage, another token than the pad
    prompt_mask = torch.nn.functional.pad(prompt_mask, (extra, 0), value=False)
    ids = torch.nn.functional.pad(together.completion_ids, (0, behind), value=9)
    with torch.no_grad():
        logits = completion_logits(language_model, prompt_ids, prompt_mask, ids, config)
        for i, one in enumerate(alone):
            length = int(one.completion_mask.sum())
            expected = completion_logits(
                language_model, one.prompt_ids, one.prompt_mask, one.completion_ids[:, :length], config
            )
            assert float((logits[i, :length] - expected[0]).abs().max()) < TOLERANCE
            logprobs = objective.selected_logprobs(logits[i : i + 1, :length], one.completion_ids[:, :length])
            assert logprobs[0].tolist() == pytest.approx(one.logprobs[0, :length].tolist(), abs=TOLERANCE)
