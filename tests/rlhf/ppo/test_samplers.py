"""Altered samplers as distributions are transformers' own; traits of tokens are tested as worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from transformers import (
    ForcedEOSTokenLogitsProcessor,
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from rlhf.ppo.evidence import readable
from rlhf.ppo.goodness import MIN_GAIN, Traits, tilt
from rlhf.ppo.sampled import Sampled
from rlhf.ppo.samplers import Context, Sampler, edge

EOS, VOCABULARY = 0, 12
# Two prompts, of one token and of three; four tokens of completion after each. -1 stands for padding.
SEQUENCES = [[-1, -1, 3, 4, 3, 4, 5], [7, 7, 2, 7, 7, 2, 7]]
PROMPTS = [1, 3]

QWEN: dict[str, Any] = {"repetition_penalty": 1.1, "temperature": 0.7, "top_k": 6, "top_p": 0.8}
THEIRS: dict[str, tuple[dict[str, Any], Any]] = {
    "repetition penalty": ({"repetition_penalty": 1.3}, lambda p: [RepetitionPenaltyLogitsProcessor(1.3)]),
    "n-gram ban": ({"no_repeat_ngram_size": 2}, lambda p: [NoRepeatNGramLogitsProcessor(2)]),
    "single tokens banned": ({"no_repeat_ngram_size": 1}, lambda p: [NoRepeatNGramLogitsProcessor(1)]),
    "suppressed": ({"suppressed": (4, 9)}, lambda p: [SuppressTokensLogitsProcessor([4, 9])]),
    "minimum length": ({"min_new_tokens": 2}, lambda p: [MinNewTokensLengthLogitsProcessor(p, 2, [EOS])]),
    "forced end": ({"forced_end": 4}, lambda p: [ForcedEOSTokenLogitsProcessor(p + 4, [EOS])]),
    "temperature": ({"temperature": 0.7}, lambda p: [TemperatureLogitsWarper(0.7)]),
    "top-k": ({"top_k": 3}, lambda p: [TopKLogitsWarper(3)]),
    "top-p": ({"top_p": 0.7}, lambda p: [TopPLogitsWarper(0.7)]),
    "min-p": ({"min_p": 0.2}, lambda p: [MinPLogitsWarper(0.2)]),
    "typical-p": ({"typical_p": 0.6}, lambda p: [TypicalLogitsWarper(0.6)]),
    "all of Qwen's": (
        QWEN,
        lambda p: [
            RepetitionPenaltyLogitsProcessor(1.1), TemperatureLogitsWarper(0.7), TopKLogitsWarper(6),
            TopPLogitsWarper(0.8),
        ],
    ),
}  # fmt: skip


def contexts() -> Context:
    """Every completion token of the two sequences."""
    rows, positions = torch.arange(2).repeat_interleave(4), torch.arange(4).repeat(2)
    sequences = torch.tensor(SEQUENCES).clamp(min=0)[rows]
    return Context(sequences, torch.tensor([2, 0])[rows], 3 + positions, positions, 4, (EOS,))


@pytest.mark.parametrize("case", THEIRS)
def test_a_sampler_is_transformers_own(case: str) -> None:
    settings, processors = THEIRS[case]
    torch.manual_seed(1)
    logits = 2 * torch.randn(8, VOCABULARY)
    ours = Sampler(**settings).logprobs(logits, contexts()).exp()
    for index in range(8):
        row, position = divmod(index, 4)
        before = [i for i in SEQUENCES[row][: 3 + position] if i >= 0]
        theirs = LogitsProcessorList(processors(PROMPTS[row]))(torch.tensor([before]), logits[index : index + 1])
        torch.testing.assert_close(ours[index : index + 1], theirs.softmax(-1))
    assert not torch.allclose(ours, logits.softmax(-1))  # the setting does something here


def test_what_stands_before_by_hand() -> None:
    context = contexts()
    seen, pairs = context.seen(VOCABULARY), context.repeating(2, VOCABULARY)
    # first sequence, last token: 3 4 3 4 | 5; padding (id 0 here) is not seen; the pair 4 3 stands before
    assert seen[3].nonzero().flatten().tolist() == [3, 4]
    assert pairs[3].nonzero().flatten().tolist() == [3]
    assert context.repeating(3, VOCABULARY)[3].nonzero().flatten().tolist() == [3]  # 3 4 3
    assert seen[0].nonzero().flatten().tolist() == [3]  # the prompt counts
    assert not pairs[0].any()
    assert pairs[4].nonzero().flatten().tolist() == []  # 7 7 2 |: nothing follows an earlier 2
    assert pairs[5].nonzero().flatten().tolist() == [2, 7]  # 7 7 2 7 |: 7 7 and 7 2


def test_edges_by_hand() -> None:
    # p = .5, .3, .2: surprisals .693, 1.204, 1.609; entropy 1.030; distances .337, .174, .580
    logq, second, first = torch.tensor([[0.5, 0.3, 0.2]]).log(), torch.tensor([1]), torch.tensor([0])
    assert float(edge("top_k", logq, second)) == 2
    assert float(edge("top_p", logq, second)) == pytest.approx(0.5)
    assert float(edge("min_p", logq, second)) == pytest.approx(0.6)
    assert float(edge("typical_p", logq, second)) == 0  # the most typical
    assert float(edge("typical_p", logq, first)) == pytest.approx(0.3)


def test_a_tilt_by_hand() -> None:
    # 3 of 4 where 1/2 is expected: odds 3, gain 3 ln(.75/.5) + ln(.25/.5)
    odds, gain = tilt(torch.full((4,), 0.5, dtype=torch.float64), 3)
    assert odds == pytest.approx(3.0)
    assert gain == pytest.approx(3 * math.log(1.5) - math.log(2))
    # never, where 1/2 twice and 1/4 once are due: -ln(1/2 1/2 3/4)
    odds, gain = tilt(torch.tensor([0.5, 0.5, 0.25], dtype=torch.float64), 0)
    assert odds < 1e-6
    assert gain == pytest.approx(math.log(16 / 3))


def drawn(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, Context]:
    """Tokens from known distributions, each a completion of one token after a prompt of one."""
    torch.manual_seed(seed)
    logq = (2 * torch.randn(count, VOCABULARY)).log_softmax(-1)
    ids = torch.multinomial(logq.exp(), 1).squeeze(-1)
    ones = torch.ones(count, dtype=torch.long)
    return logq, ids, Context(torch.stack([ids.roll(1), ids], 1), 0 * ones, ones, 0 * ones, 1, (EOS,))


def test_tokens_of_a_distribution_fit_it_and_others_do_not() -> None:
    for seed in range(60):
        logq, ids, context = drawn(500, seed)
        traits = Traits()
        traits.add(logq, ids, context)
        assert traits.misfits() == [], seed
        assert traits.absent() == []
    changed = Traits()  # the same tokens under flatter distributions
    changed.add((0.6 * logq).log_softmax(-1), ids, context)
    assert all(misfit.gain >= MIN_GAIN for misfit in changed.misfits())
    assert changed.misfits()


def test_pieces_add_up() -> None:
    logq, ids, context = drawn(200, 0)
    whole, pieces = Traits(), Traits()
    tilted = (0.3 * logq).log_softmax(-1)
    whole.add(tilted, ids, context)
    for own in (slice(0, 70), slice(70, 200)):
        part = Context(*(x[own] if isinstance(x, torch.Tensor) else x for x in context))
        pieces.add(tilted[own], ids[own], part)
    (one, *_), (other, *_) = whole.misfits(), pieces.misfits()
    assert one.tokens == other.tokens
    assert one.gain == pytest.approx(other.gain)


def test_what_is_read_is_bounded() -> None:
    mask = torch.ones(40, 30, dtype=torch.bool)
    ids = torch.zeros(40, 30, dtype=torch.long)
    prompt = torch.zeros(40, 1, dtype=torch.long)
    whole = Sampled(prompt, prompt.bool(), ids, mask, EOS, logprobs=torch.zeros(40, 30))
    assert len(readable(whole, 100)) == 40  # 1,200 tokens
    assert readable(whole, 2**26 // 300).completion_ids.shape == (10, 30)  # 300 tokens
    few = readable(whole, 2**26 // 80)  # 80 tokens: 10 of each of 8
    assert few.completion_ids.shape == (8, 10)
    assert few.logprobs is not None
    assert few.logprobs.shape == (8, 10)
