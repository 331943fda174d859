"""Every equation against values derived by hand, on ragged batches whose padding holds garbage."""

from __future__ import annotations

import math

import pytest
import torch

from rlhf.language_model.sampler import suppress
from rlhf.ppo.objective import (
    clipped_loss,
    constant_advantages,
    exact_kl,
    gathered,
    kl_k1,
    kl_k3,
    masked_mean,
    masked_sum,
    selected_logprobs,
    whiten,
)

TOLERANCE = 1e-6
# Two completions of 2 and 1 tokens; the third column and the second row's rest are padding.
MASK = torch.tensor([[True, True, False], [True, False, False]])
NAN = math.nan


def test_masked_mean_counts_real_tokens_only() -> None:
    x = torch.tensor([[1.0, 2.0, NAN], [6.0, NAN, NAN]])
    assert masked_sum(x, MASK).item() == 9.0
    assert masked_mean(x, MASK).item() == 3.0  # (1 + 2 + 6) / 3
    # The wrong variants: a mean over padding (9 / 6), a mean of row means ((1.5 + 6) / 2).
    assert masked_mean(x, MASK).item() != pytest.approx(9 / 6)
    assert masked_mean(x, MASK).item() != pytest.approx(3.75)
    assert masked_mean(x, torch.zeros_like(MASK)).item() == 0.0


def test_selected_logprobs() -> None:
    logits = torch.tensor([[[0.0, math.log(3.0)], [math.log(4.0), 0.0]]])
    # p = (1/4, 3/4) and (4/5, 1/5)
    got = selected_logprobs(logits, torch.tensor([[1, 1]]))
    expected = pytest.approx([math.log(0.75), math.log(0.2)], abs=TOLERANCE)
    assert got.tolist()[0] == expected
    assert gathered(logits.log_softmax(-1), torch.tensor([[1, 1]])).tolist()[0] == expected


def test_exact_kl_and_entropy() -> None:
    p, q = (0.5, 0.5), (0.25, 0.75)
    got = exact_kl(torch.tensor([[p]]).log(), torch.tensor([[q]]).log())
    # 0.5 ln 2 + 0.5 ln(2/3) = 0.5 ln(4/3)
    assert got.kl.item() == pytest.approx(0.5 * math.log(4 / 3), abs=TOLERANCE)
    assert got.entropy.item() == pytest.approx(math.log(2), abs=TOLERANCE)
    # The wrong direction differs: 0.25 ln 0.5 + 0.75 ln 1.5
    assert got.kl.item() != pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5), abs=1e-3)


def test_exact_kl_of_a_token_that_both_suppress() -> None:
    logits = suppress(torch.tensor([[[0.0, 0.0, 5.0]]]), [2])
    ref_logits = suppress(torch.tensor([[[math.log(0.25), math.log(0.75), 1.0]]]), [2])
    got = exact_kl(logits.log_softmax(-1), ref_logits.log_softmax(-1))
    assert got.kl.item() == pytest.approx(0.5 * math.log(4 / 3), abs=TOLERANCE)
    assert got.entropy.item() == pytest.approx(math.log(2), abs=TOLERANCE)


def test_k1_and_k3_are_sums_over_a_completion() -> None:
    logprobs = torch.tensor([[-1.0, -2.0, NAN], [-3.0, NAN, NAN]])
    ref = torch.tensor([[-1.5, -1.0, NAN], [-3.5, NAN, NAN]])
    assert kl_k1(logprobs, ref, MASK).tolist() == pytest.approx([0.5 - 1.0, 0.5], abs=TOLERANCE)
    # log r = ref - π: -0.5, 1.0 | -0.5
    first = (math.exp(-0.5) - 1 + 0.5) + (math.exp(1.0) - 1 - 1.0)
    second = math.exp(-0.5) - 1 + 0.5
    assert kl_k3(logprobs, ref, MASK).tolist() == pytest.approx([first, second], abs=TOLERANCE)


def test_constant_advantages_are_the_same_at_every_token() -> None:
    got = constant_advantages(
        torch.tensor([3.0, -1.0], dtype=torch.float64),
        1.0,
        2.0,
        0.5,
        torch.tensor([0.4, -0.2], dtype=torch.float64),
        MASK,
    )
    # (3 - 1)/2 - 0.5·0.4 = 0.8; (-1 - 1)/2 + 0.5·0.2 = -0.9
    assert got.tolist() == [pytest.approx([0.8, 0.8, 0.0]), pytest.approx([-0.9, 0.0, 0.0])]
    # The wrong variant shares the penalty out per token.
    assert got[0, 0].item() != pytest.approx(1.0 - 0.5 * 0.4 / 2)


def test_an_unscored_completion_has_no_advantage() -> None:
    rewards = torch.tensor([1.0, NAN], dtype=torch.float64)
    mask = MASK & ~rewards.isnan()[:, None]
    got = constant_advantages(rewards, 0.0, 1.0, 0.0, torch.zeros(2, dtype=torch.float64), mask)
    assert got.tolist() == [[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]


def test_whiten_weights_tokens() -> None:
    got = whiten(torch.tensor([[1.0, 1.0, 9.0], [4.0, 9.0, 9.0]]), MASK)
    # mean 2, variance (1 + 1 + 4)/3 = 2
    root = math.sqrt(2)
    assert got[0].tolist() == pytest.approx([-1 / root, -1 / root, 0.0], abs=TOLERANCE)
    assert got[1].tolist() == pytest.approx([2 / root, 0.0, 0.0], abs=TOLERANCE)
    assert whiten(torch.full((2, 3), 5.0), MASK).abs().max().item() == 0.0


def test_clipped_loss_by_hand() -> None:
    old = torch.zeros(2, 3)
    ratios = torch.tensor([[1.5, 0.5, 7.0], [1.1, 7.0, 7.0]])
    logprobs = ratios.log().requires_grad_()
    advantages = torch.tensor([[2.0, 2.0, 5.0], [-1.0, 5.0, 5.0]])
    got = clipped_loss(logprobs, old, advantages, MASK, 0.2)
    # min(1.5·2, 1.2·2) = 2.4 (binds); min(0.5·2, 0.8·2) = 1.0 (outside, does not bind); 1.1·-1 = -1.1
    assert got.loss.item() == pytest.approx(-(2.4 + 1.0 - 1.1), abs=TOLERANCE)
    assert (got.outside.item(), got.binding.item()) == (2, 1)
    assert got.max_deviation.item() == pytest.approx(0.5, abs=TOLERANCE)
    kl = sum(r - 1 - math.log(r) for r in (1.5, 0.5, 1.1))
    assert got.approx_kl.item() == pytest.approx(kl, abs=TOLERANCE)
    got.loss.backward()
    # No gradient where clipping binds nor in the padding; elsewhere -r·A.
    assert logprobs.grad is not None
    assert logprobs.grad.flatten().tolist() == pytest.approx([0.0, -1.0, 0.0, 1.1, 0.0, 0.0], abs=TOLERANCE)


def test_importance_weights_multiply_what_is_gained_and_nothing_else() -> None:
    ratios = torch.tensor([[1.5, 0.5, 7.0], [1.1, 7.0, 7.0]])
    advantages = torch.tensor([[2.0, 2.0, 5.0], [-1.0, 5.0, 5.0]])
    weights = torch.tensor([[0.5, 2.0, 9.0], [3.0, 9.0, 9.0]])
    got = clipped_loss(ratios.log(), torch.zeros(2, 3), advantages, MASK, 0.2, weights)
    assert got.loss.item() == pytest.approx(-(0.5 * 2.4 + 2.0 * 1.0 - 3.0 * 1.1), abs=TOLERANCE)
    assert (got.outside.item(), got.binding.item()) == (2, 1)


def test_clipped_loss_below_the_range_with_a_negative_advantage_binds() -> None:
    one = torch.ones(1, 1, dtype=torch.bool)
    got = clipped_loss(torch.tensor([[0.5]]).log(), torch.zeros(1, 1), torch.tensor([[-1.0]]), one, 0.2)
    # min(-0.5, -0.8) = -0.8
    assert got.loss.item() == pytest.approx(0.8, abs=TOLERANCE)
    assert (got.outside.item(), got.binding.item()) == (1, 1)


def test_a_huge_log_ratio_stays_finite() -> None:
    one = torch.ones(1, 1, dtype=torch.bool)
    logprobs = torch.tensor([[500.0]], requires_grad=True)
    got = clipped_loss(logprobs, torch.zeros(1, 1), torch.tensor([[-1.0]]), one, 0.2)
    assert math.isfinite(got.loss.item())
    assert math.isfinite(got.approx_kl.item())


@pytest.mark.parametrize("extra", [1, 4])
def test_padding_changes_nothing(extra: int) -> None:
    torch.manual_seed(extra)
    logprobs, old, advantages = torch.randn(2, 3), torch.randn(2, 3), torch.randn(2, 3)
    wide = torch.nn.functional.pad(MASK, (0, extra))

    def widened(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(x, (0, extra), value=NAN)

    narrow_result = clipped_loss(logprobs, old, advantages, MASK, 0.2)
    wide_result = clipped_loss(widened(logprobs), widened(old), widened(advantages), wide, 0.2)
    for a, b in zip(narrow_result, wide_result, strict=True):
        assert a.item() == pytest.approx(b.item(), abs=TOLERANCE)
