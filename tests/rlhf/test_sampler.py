"""Sampling: inversion by hand, one completion whatever the batch, log-probs that scoring reproduces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from rlhf.foundation.encoding import beginning_token, encode_prompt
from rlhf.foundation.errors import InputError
from rlhf.language_model.drawing import invert_cdf
from rlhf.language_model.endings import Ending
from rlhf.language_model.randomness import Stream, uniforms
from rlhf.language_model.sampler import (
    IMPOSSIBLE,
    chunks,
    generate,
    pad_prompts,
    position_ids,
    suppress,
)


@pytest.fixture(scope="module")
def model() -> GPT2LMHeadModel:
    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=11,
        n_positions=32,
        n_embd=16,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
        initializer_range=0.5,
    )
    return GPT2LMHeadModel(config).double().eval()


def test_uniforms_depend_on_their_key_alone() -> None:
    whole = uniforms(3, Stream.ROLLOUT, range(6), 5, iteration=2)
    assert (whole[4] == uniforms(3, Stream.ROLLOUT, [4], 5, iteration=2)[0]).all()
    assert (whole[4, :3] == uniforms(3, Stream.ROLLOUT, [4], 3, iteration=2)[0]).all()
    others = [
        uniforms(4, Stream.ROLLOUT, [4], 5, iteration=2),
        uniforms(3, Stream.EVALUATION, [4], 5, iteration=2),
        uniforms(3, Stream.ROLLOUT, [5], 5, iteration=2),
        uniforms(3, Stream.ROLLOUT, [4], 5, iteration=3),
    ]
    assert not any((whole[4] == other[0]).any() for other in others)


def test_invert_cdf_by_hand() -> None:
    probabilities = torch.tensor([[0.0, 0.25, 0.5, 0.25, 0.0]])
    for u, token in [(0.0, 1), (0.2499, 1), (0.25, 2), (0.7499, 2), (0.75, 3), (1 - 2**-53, 3)]:
        assert invert_cdf(probabilities, torch.tensor([u], dtype=torch.float64)).item() == token


def test_sampled_frequencies_match_the_model(model: GPT2LMHeadModel) -> None:
    count = 20_000
    done = generate(
        model, [[0]] * count, uniforms(0, Stream.SAMPLE, range(count), 1), ending=Ending((0,)), pad_token_id=0
    )
    with torch.no_grad():
        p = model(torch.tensor([[0]])).logits[0, -1].softmax(-1)
    share = torch.bincount(done.completion_ids[:, 0], minlength=11).double() / count
    # Five standard errors of each share.
    assert ((share - p).abs() < 5 * (p * (1 - p) / count).sqrt()).all()


def test_batch_and_padding_change_nothing(model: GPT2LMHeadModel) -> None:
    prompts = [[0], [3, 4, 5], [0, 7], [0], [9, 9, 9, 9, 1]]
    numbers = uniforms(5, Stream.SAMPLE, range(5), 12)
    whole = generate(model, prompts, numbers, ending=Ending((0,)), pad_token_id=0)
    for i, prompt in enumerate(prompts):
        alone = generate(model, [prompt], numbers[i : i + 1], ending=Ending((0,)), pad_token_id=0)
        assert (whole.completion_ids[i] == alone.completion_ids[0]).all()
        assert (whole.completion_mask[i] == alone.completion_mask[0]).all()
        assert (whole.logprobs[i] - alone.logprobs[0]).abs().max() < 1e-12


def test_mask_keeps_the_first_end_token_and_logprobs_are_the_model_s(model: GPT2LMHeadModel) -> None:
    done = generate(model, [[0]] * 64, uniforms(2, Stream.SAMPLE, range(64), 8), ending=Ending((0,)), pad_token_id=0)
    lengths = done.completion_mask.sum(-1)
    assert len(set(lengths.tolist())) > 2  # ragged, or the test shows nothing
    for ids, mask, logprobs in zip(done.completion_ids, done.completion_mask, done.logprobs, strict=True):
        n = int(mask.sum())
        assert mask[:n].all()
        assert (ids[: n - 1] != 0).all()
        assert n == 8 or ids[n - 1] == 0
        with torch.no_grad():
            logits = model(torch.cat([torch.tensor([0]), ids[:n]])[None]).logits[0, :-1]
        expected = logits.log_softmax(-1).gather(-1, ids[:n, None]).squeeze(-1)
        assert (logprobs[:n] - expected).abs().max() < 1e-10
        assert (logprobs[n:] == 0).all()


def test_temperature_divides_the_logits_and_logprobs_stay_at_one(model: GPT2LMHeadModel) -> None:
    count = 20_000
    done = generate(
        model,
        [[0]] * count,
        uniforms(0, Stream.SAMPLE, range(count), 1),
        ending=Ending((0,)),
        pad_token_id=0,
        temperature=2.0,
    )
    with torch.no_grad():
        logits = model(torch.tensor([[0]])).logits[0, -1]
    p = (logits / 2).softmax(-1)
    share = torch.bincount(done.completion_ids[:, 0], minlength=11).double() / count
    assert ((share - p).abs() < 5 * (p * (1 - p) / count).sqrt()).all()
    at_one = logits.log_softmax(-1)[done.completion_ids[:, 0]]
    assert (done.logprobs[:, 0] - at_one).abs().max() < 1e-10


def test_suppressed_tokens_never_come(model: GPT2LMHeadModel) -> None:
    numbers = uniforms(0, Stream.SAMPLE, range(256), 4)
    done = generate(model, [[0]] * 256, numbers, ending=Ending((0,)), pad_token_id=0, suppress_tokens=[3, 5])
    assert not np.isin(done.completion_ids.numpy(), [3, 5]).any()
    assert suppress(torch.zeros(1, 4), [1]).tolist() == [[0.0, IMPOSSIBLE, 0.0, 0.0]]


def test_left_padding_and_positions() -> None:
    ids, mask = pad_prompts([[5], [6, 7, 8]], pad_token_id=0)
    assert ids.tolist() == [[0, 0, 5], [6, 7, 8]]
    assert mask.tolist() == [[False, False, True], [True, True, True]]
    assert position_ids(mask).tolist() == [[0, 0, 0], [0, 1, 2]]
    assert [list(c) for c in chunks(5, 2)] == [[0, 1], [2, 3], [4]]


class _Ends:
    bos_token_id, eos_token_id = None, None


def test_a_tokenizer_without_beginning_is_refused() -> None:
    with pytest.raises(InputError, match="neither a BOS nor an EOS"):
        beginning_token(_Ends())


def test_unconditional_is_exactly_one_beginning_token(tmp_path: Path) -> None:
    class Tokenizer:
        bos_token_id, eos_token_id, bos_token, eos_token = None, 7, None, "<end>"

        def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, Any]:
            return {"input_ids": [1, 2]}

    assert encode_prompt(Tokenizer(), "") == [7]
    assert encode_prompt(Tokenizer(), "hi") == [1, 2]
