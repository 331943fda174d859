"""Samples of `generate` with one setting or several: the doctor names the setting, or says that it knows none."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
from torch.nn.functional import pad
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

from rlhf.language_model.endings import Ending
from rlhf.language_model.randomness import Stream, uniforms
from rlhf.language_model.sampler import generate
from rlhf.ppo.doctor import examine
from rlhf.ppo.sampled import Sampled

EOS, LENGTH = 0, 24


@pytest.fixture(scope="module")
def policy() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    shape = GPT2Config(
        vocab_size=60, n_positions=64, n_embd=32, n_layer=2, n_head=2, bos_token_id=EOS, eos_token_id=EOS,
        initializer_range=0.25, resid_pdrop=0.0, attn_pdrop=0.0, embd_pdrop=0.0,
    )  # fmt: skip
    return GPT2LMHeadModel(shape).eval()


def prompts(count: int) -> list[list[int]]:
    """Prompts of 4 to 12 tokens."""
    torch.manual_seed(7)
    return [[EOS, *torch.randint(1, 60, (int(k),)).tolist()] for k in torch.randint(3, 12, (count,))]


def sampled(policy: Any, count: int, seed: int, *, seen_of_prompt: int = 99, **settings: Any) -> Sampled:
    """Completions by transformers' `generate`, which sees the last tokens of each prompt alone."""
    torch.manual_seed(seed)
    whole = prompts(count)
    ids, mask = _padded([prompt[-seen_of_prompt:] for prompt in whole])
    plain = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "do_sample": True, "max_new_tokens": LENGTH}
    config = GenerationConfig(**(plain | settings), pad_token_id=EOS, eos_token_id=EOS)
    out = policy.generate(input_ids=ids, attention_mask=mask.long(), generation_config=config)[:, ids.shape[1] :]
    out = pad(out, (0, LENGTH - out.shape[1]), value=EOS)
    first_end = torch.where((out == EOS).any(1), (out == EOS).int().argmax(1), LENGTH)
    return Sampled(*_padded(whole), out, torch.arange(LENGTH) <= first_end[:, None], (EOS,))


def _padded(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows))
    ids = torch.tensor([[EOS] * (width - len(row)) + row for row in rows])
    return ids, torch.tensor([[False] * (width - len(row)) + [True] * len(row) for row in rows])


QWEN = {"temperature": 0.7, "top_p": 0.8, "top_k": 20}
# settings of generate, the cause, what its evidence begins with (the first end may come later than it must)
PLANTED: dict[str, tuple[dict[str, Any], str, str]] = {
    "slightly penalised": ({"repetition_penalty": 1.1}, "repetition penalty", r"1\.(0[89]|1[0-2]):"),
    "penalised": ({"repetition_penalty": 1.3}, "repetition penalty", r"1\.(2[6-9]|3[0-4]):"),
    "pairs banned": ({"no_repeat_ngram_size": 2}, "n-gram ban", "n = 2:"),
    "min-p": ({"min_p": 0.1}, "min-p", "0.1 of the likeliest token's"),
    "typical-p": ({"typical_p": 0.8}, "typical-p", "p = 0.80"),
    "minimum length": ({"min_new_tokens": 12}, "minimum length", "no end token among the first 1[2-5] tokens"),
    "forced end": ({"forced_eos_token_id": EOS}, "forced end", "token 24 is always the end token"),
    "top-k": ({"top_k": 20}, "top-k", "k = 20"),
    "top-p": ({"top_p": 0.9}, "top-p", "p = 0.90"),
    "cut prompts": ({"seen_of_prompt": 4}, "cut prompts", "the sampler saw the last 4 tokens of each prompt"),
    "a bias": ({"sequence_bias": {(5,): 2.0}}, "none of the known", ""),
}


@pytest.mark.parametrize("case", PLANTED)
def test_the_setting_is_named(policy: GPT2LMHeadModel, case: str) -> None:
    settings, cause, evidence = PLANTED[case]
    diagnosis = examine(policy, policy, sampled(policy, 192, 1, **settings))
    assert [found.name for found in diagnosis.causes] == [cause], diagnosis
    assert re.match(evidence, diagnosis.causes[0].evidence), diagnosis
    if cause == "none of the known":
        assert "standard errors" in diagnosis.causes[0].evidence


@pytest.mark.slow
@pytest.mark.parametrize("penalty", [1.05, 1.1])
def test_settings_that_come_together_are_named_together(policy: GPT2LMHeadModel, penalty: float) -> None:
    diagnosis = examine(policy, policy, sampled(policy, 192, 1, repetition_penalty=penalty, **QWEN))
    (found,) = diagnosis.causes
    assert found.name == "repetition penalty + temperature + top-k + top-p", diagnosis
    theta, temperature, k, p = found.evidence.split(": the samples")[0].split(", ")
    assert float(theta) == pytest.approx(penalty, abs=0.03)
    assert float(temperature) == pytest.approx(0.7, abs=0.05)
    assert int(k.removeprefix("k = ")) == pytest.approx(20, abs=3)
    assert float(p.removeprefix("p = ")) == pytest.approx(0.8, abs=0.05)


@pytest.mark.slow
def test_healthy_samples_of_generate(policy: GPT2LMHeadModel) -> None:
    alarms = [str(d) for s in range(40) if not (d := examine(policy, policy, sampled(policy, 64, s))).healthy]
    assert alarms == []


def drawn(policy: Any, count: int = 100) -> Sampled:
    """Completions with the log-probs that the sampler saw."""
    draws = uniforms(0, Stream.SAMPLE, range(count), LENGTH)
    done = generate(policy, prompts(count), draws, ending=Ending((EOS,)), pad_token_id=EOS)
    return Sampled(done.prompt_ids, done.prompt_mask, done.completion_ids, done.completion_mask, (EOS,), done.logprobs)


def moved(policy: GPT2LMHeadModel, size: float) -> GPT2LMHeadModel:
    torch.manual_seed(3)
    other = copy.deepcopy(policy)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_((size * torch.randn(parameter.shape)).to(parameter.dtype))
    return other


@pytest.mark.parametrize(
    ("scorer", "sampler"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16), (torch.bfloat16, torch.bfloat16)],
)
def test_rounding_is_not_staleness(policy: GPT2LMHeadModel, scorer: torch.dtype, sampler: torch.dtype) -> None:
    scoring, sampling = (copy.deepcopy(policy).to(dtype) for dtype in (scorer, sampler))
    diagnosis = examine(scoring, scoring, drawn(sampling))
    assert {found.name for found in diagnosis.causes} <= {"bf16 rounding"}, diagnosis
    assert diagnosis.healthy or diagnosis.causes, diagnosis
    if scorer != sampler:
        assert not diagnosis.healthy


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [0.001, 0.01])  # at the first, log-probs differ by as much as bf16 makes them differ
def test_staleness_is_not_rounding(policy: GPT2LMHeadModel, dtype: torch.dtype, size: float) -> None:
    now = copy.deepcopy(policy).to(dtype)
    diagnosis = examine(now, now, drawn(moved(now, size)))
    assert [found.name for found in diagnosis.causes] == ["stale policy"], diagnosis


def test_recorded_log_probs_of_nothing_that_sampled(policy: GPT2LMHeadModel) -> None:
    fresh, stale = drawn(policy), moved(policy, 0.05)
    other = torch.randn(fresh.completion_ids.shape, generator=torch.Generator().manual_seed(0)).abs()
    assert fresh.logprobs is not None
    made_up = Sampled(
        fresh.prompt_ids, fresh.prompt_mask, fresh.completion_ids, fresh.completion_mask, (EOS,), fresh.logprobs - other
    )
    diagnosis = examine(policy, policy, made_up)
    assert [found.name for found in diagnosis.causes] == ["none of the known"], diagnosis
    assert [found.name for found in examine(policy, policy, drawn(stale)).causes] == ["stale policy"]
