"""Drawing a token by blocks, against the running sum over the whole vocabulary; keys and values with room."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache, GemmaConfig, GemmaForCausalLM, GPT2Config, GPT2LMHeadModel, PreTrainedModel

from rlhf.foundation.roomy_cache import RoomyLayer, make_room
from rlhf.language_model.drawing import BLOCK, draw, invert_cdf

EDGES = [0.0, 1e-12, 0.3, 0.5, 0.999999, 1 - 2**-53]


def plain(weights: Tensor, uniform: Tensor) -> Tensor:
    cdf = weights.cumsum(-1)
    return (cdf > uniform[:, None] * cdf[:, -1:]).int().argmax(-1)


@pytest.mark.parametrize("vocabulary", [1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 1003])
def test_blocks_invert_as_the_whole_sum_does(vocabulary: int) -> None:
    generator = torch.Generator().manual_seed(vocabulary)
    weights = torch.randn(600, vocabulary, generator=generator, dtype=torch.float64).exp()
    weights *= torch.rand(600, vocabulary, generator=generator) < 0.3  # most tokens cannot come,
    weights[torch.arange(600), torch.randint(vocabulary, (600,), generator=generator)] = 1.0  # and one always can
    uniform = torch.cat([torch.tensor(EDGES * 10, dtype=torch.float64), torch.rand(540, generator=generator).double()])
    drawn = invert_cdf(weights, uniform)
    assert bool((weights.gather(-1, drawn[:, None]) > 0).all())
    assert torch.equal(drawn, plain(weights, uniform))


def test_a_uniform_that_rounds_to_one_still_draws_what_can_come() -> None:
    weights = torch.zeros(1, 2 * BLOCK)
    weights[0, 5], weights[0, BLOCK + 3] = 0.5, 0.5  # and nothing after it
    assert invert_cdf(weights, torch.tensor([1 - 2**-53], dtype=torch.float64)).item() == BLOCK + 3


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_log_probs_are_at_temperature_one(temperature: float) -> None:
    logits = torch.tensor([[0.0, 3.0, -2.0, 1000.0], [0.5, -1.0, 2.0, 0.0]], dtype=torch.float64)
    drawn, at_one, sound = draw(logits, torch.tensor([0.2, 0.7], dtype=torch.float64), temperature)
    assert torch.equal(drawn, plain((logits / temperature).softmax(-1), torch.tensor([0.2, 0.7])))
    assert torch.allclose(at_one, logits.log_softmax(-1).gather(-1, drawn[:, None]).squeeze(-1), atol=1e-15)
    assert sound.tolist() == [True, True]


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_distribution_is_told_by_its_row(wrong: float) -> None:
    logits = torch.zeros(2, 5)
    logits[1] = wrong
    assert draw(logits, torch.tensor([0.5, 0.5]), 1.0)[2].tolist() == [True, False]


def gpt2() -> PreTrainedModel:
    return GPT2LMHeadModel(GPT2Config(vocab_size=31, n_positions=64, n_embd=16, n_layer=2, n_head=2))


def grouped() -> PreTrainedModel:
    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "head_dim": 8}
    return GemmaForCausalLM(GemmaConfig(vocab_size=31, num_attention_heads=4, num_key_value_heads=2, **sizes))


@pytest.mark.parametrize("make", [gpt2, grouped])
def test_a_cache_with_room_gives_the_bits_of_one_that_grows(make: Any) -> None:
    torch.manual_seed(0)
    model = make().eval()
    ids = torch.randint(31, (3, 20))
    mask = torch.ones(3, 20, dtype=torch.bool)
    mask[1, :4] = False

    @torch.no_grad()
    def last_logits(places: int) -> list[Tensor]:
        cache, found = DynamicCache(), []
        for start, stop in [(0, 6), *((place, place + 1) for place in range(6, 20))]:
            out = model(ids[:, start:stop], attention_mask=mask[:, :stop], past_key_values=cache, use_cache=True)
            found.append(out.logits[:, -1])
            if start == 0 and places:
                make_room(cache, places)
                assert all(type(layer) is RoomyLayer for layer in cache.layers)
        assert cache.get_seq_length() == 20
        return found

    for grown, roomy in zip(last_logits(0), last_logits(20), strict=True):
        assert torch.equal(grown, roomy)


def test_a_cache_of_another_kind_stays_as_it_is() -> None:
    class Own(DynamicCache):
        pass

    cache = Own()
    cache.update(torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 2, 4), 0)
    make_room(cache, 9)
    assert not isinstance(cache.layers[0], RoomyLayer)
