"""The frontier against enumeration: all texts of a tiny model, each with its probability."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

from rlhf.inspection.best_of_n import best_of_n
from rlhf.inspection.gibbs_frontier import GibbsPoint, gibbs_frontier, tilted


@pytest.fixture(scope="module")
def enumerated() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every text of three tokens of a tiny random model: probability, a reward, and a gold that turns on it."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    size = 6
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=size, n_positions=8, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    ).eval()
    texts = torch.tensor(list(itertools.product(range(size), repeat=3)))
    with torch.no_grad():
        ids = torch.cat([torch.zeros(len(texts), 1, dtype=torch.long), texts], 1)
        logp = model(ids).logits[:, :-1].double().log_softmax(-1).gather(-1, texts[..., None])[..., 0].sum(-1)
    reward = np.random.default_rng(1).standard_normal(len(texts))
    return logp.exp().numpy(), reward, -((reward - 0.5) ** 2)


def gibbs(probability: np.ndarray, reward: np.ndarray, beta: float) -> tuple[np.ndarray, float]:
    """The policy itself, text by text, and its KL to the original by its definition."""
    policy = probability * np.exp(reward / beta)
    policy /= policy.sum()
    return policy, float((policy * np.log(policy / probability)).sum())


def point_at(kl: float, points: list[GibbsPoint]) -> GibbsPoint:
    return next(point for point in points if point.kl == kl)


def test_weights_of_all_texts_are_the_gibbs_policy_exactly() -> None:
    # Three texts of probability 1/2, 1/4, 1/4 as four samples; λ = log 2, rewards 0, 1, 2: tilted 2 : 2 : 4 of 8.
    found = tilted(np.array([0.0, 0.0, 1.0, 2.0]), math.log(2))
    assert found.weights == pytest.approx([1 / 8, 1 / 8, 2 / 8, 4 / 8])
    by_definition = 0.25 * math.log(0.25 / 0.5) + 0.25 * math.log(0.25 / 0.25) + 0.5 * math.log(0.5 / 0.25)
    assert found.kl == pytest.approx(by_definition)
    assert found.mean == pytest.approx(1.25)


def test_the_frontier_from_samples_is_that_of_enumeration(enumerated: Any) -> None:
    probability, reward, gold = enumerated
    drawn = np.random.default_rng(0).choice(len(reward), size=20_000, p=probability / probability.sum())
    points = gibbs_frontier(reward[drawn], {"gold": gold[drawn]})
    for kl in (0.25, 1.0, 2.0):
        point = point_at(kl, points)
        policy, exact = gibbs(probability, reward, point.beta)
        low, high = 0.01, 100.0
        for _ in range(100):  # the β of this KL, by the exact KL
            middle = math.sqrt(low * high)
            low, high = (middle, high) if gibbs(probability, reward, middle)[1] > kl else (low, middle)
        policy, exact = gibbs(probability, reward, low)
        assert exact == pytest.approx(kl, abs=1e-9)
        assert abs(point.proxy - policy @ reward) < 4 * point.proxy_se + 1e-9
        assert abs(point.gold["gold"] - policy @ gold) < 4 * point.gold_se["gold"] + 1e-9
        assert point.proxy_se < 0.05


def test_errors_are_those_of_repeated_draws(enumerated: Any) -> None:
    probability, reward, gold = enumerated
    generator = np.random.default_rng(3)
    found = []
    for _ in range(300):
        drawn = generator.choice(len(reward), size=800, p=probability / probability.sum())
        found.append(gibbs_frontier(reward[drawn], {"gold": gold[drawn]}, kls=[1.0])[0])
    for value, error in (
        ([p.proxy for p in found], [p.proxy_se for p in found]),
        ([p.gain for p in found], [p.gain_se for p in found]),
        ([p.gold["gold"] for p in found], [p.gold_se["gold"] for p in found]),
    ):
        assert np.mean(error) == pytest.approx(np.std(value), rel=0.15)


def test_no_policy_has_more_and_best_of_n_lies_close_below() -> None:
    """A normal reward tilted is the normal moved by λ: KL λ²/2, so its gain is √(2 KL) and best-of-n's is below."""
    pool = np.random.default_rng(0).standard_normal(4000)
    best = best_of_n(pool, {}, 8)
    [point] = gibbs_frontier(pool, {}, kls=[best.kl])
    assert abs(point.gain - math.sqrt(2 * best.kl)) < 4 * point.gain_se
    assert best.proxy < point.proxy < best.proxy + 0.2


def test_it_ends_where_few_samples_carry_it() -> None:
    points = gibbs_frontier(np.random.default_rng(0).standard_normal(300), {})
    assert all(point.effective_samples >= 10 for point in points)
    assert 1.5 < points[-1].kl < math.log(300 / 10) + 0.5
    assert gibbs_frontier(np.zeros(300), {}) == []


def test_each_prompt_has_its_own_original() -> None:
    """Two prompts whose rewards differ by a constant: that difference costs no KL and gains nothing."""
    pool = np.random.default_rng(0).standard_normal(2000)
    both = np.concatenate([pool, pool + 5])
    prompts = ["a"] * 2000 + ["b"] * 2000
    [alone] = gibbs_frontier(pool, {}, kls=[1.0])
    [grouped] = gibbs_frontier(both, {}, prompts, kls=[1.0])
    assert grouped.gain == pytest.approx(alone.gain)
    assert grouped.gain_se == pytest.approx(alone.gain_se / math.sqrt(2))
    [mixed] = gibbs_frontier(both, {}, kls=[1.0])
    assert mixed.gain > 2 * grouped.gain  # what treating them as one would promise, and no policy can keep
    assert gibbs_frontier(both, {}, [str(i) for i in range(4000)]) == []
