"""Faults of the machinery between sampler and scoring: masks, dropout, padding, rounding.

Shapes: B completions, P prompt tokens (left-padded), T completion tokens (right-padded), V vocabulary, N real tokens.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlhf.ppo.precision import HALF
from rlhf.ppo.sampled import ROUNDING, Sampled, Score, apart, chosen_logprobs
from rlhf.ppo.sharding import is_cut

# Completions that are read once more in another precision.
ROUNDED_ROWS = 32


class Cause(NamedTuple):
    """A name and its evidence.

    `name` is dropout, padding, bf16 rounding (or fp16), stale reference, stale policy, cut prompts, none of the known,
    or a sampler's settings: temperature, top-k, top-p, min-p, typical-p, repetition penalty, n-gram ban, minimum
    length, forced end, suppressed tokens; several joined by " + ". Where an engine sampled (engine_causes.py), stale
    weights, rounding and settings are "... in the engine".
    """

    name: str
    evidence: str

    def __str__(self) -> str:
        return f"{self.name} ({self.evidence})"


def machinery_causes(policy: Any, reference: Any, sampled: Sampled, score: Score) -> list[Cause]:
    """Faults that do not depend on how far the policy has moved since it sampled: masks, dropout, padding."""
    found = mask_faults(sampled)
    few = sampled.rows(slice(0, 16))
    tolerance = 0.0
    for name, model in (("policy", policy), ("reference", reference)):
        first, second = (chosen_logprobs(model, few, score) for _ in range(2))
        tolerance = max(tolerance, rounding_of(model, few, score))
        if apart(first, second, few.completion_mask) > tolerance:
            found.append(Cause("dropout", f"two passes of the {name} over the same rows differ"))
    if not found:
        found += padding_fault(policy, sampled, score, tolerance)
    return found


def mask_faults(sampled: Sampled) -> list[Cause]:
    """Masks that do not follow from the ids: real tokens are those up to and with the first end token."""
    ids, mask = sampled.completion_ids, sampled.completion_mask
    count, width = mask.sum(-1), mask.shape[1]
    holes = int((mask != (torch.arange(width) < count[:, None])).any(-1).sum())
    if holes:
        return [Cause("padding", f"{holes} masks are not one run of real tokens from the start")]
    is_end = torch.isin(ids, torch.tensor(sampled.end_token_ids))
    first_end = torch.where(is_end.any(-1), is_end.int().argmax(-1), width)
    late = int((count > first_end + 1).sum())
    if late:
        return [Cause("padding", f"{late} masks count tokens after the first end token")]
    ended, dropped = int((count == first_end + 1).sum()), int(((count == first_end) & (first_end < width)).sum())
    if dropped >= 8 and not ended:
        return [Cause("padding", f"all {dropped} masks of completions that ended drop the end token")]
    return []


def padding_fault(policy: Any, sampled: Sampled, score: Score, tolerance: float) -> list[Cause]:
    """Rows with the most padding, scored as they are and alone without any."""
    padding = (~sampled.prompt_mask).sum(-1)
    picked = [int(i) for i in padding.argsort(descending=True)[:8] if padding[i] > 0]
    if not picked:
        return []
    together = chosen_logprobs(policy, sampled.rows(picked), score)
    worst = 0.0
    for place, row in enumerate(picked):
        one = sampled.rows([row])
        start, length = int(padding[row]), int(one.completion_mask.sum())
        alone = Sampled(
            one.prompt_ids[:, start:],
            one.prompt_mask[:, start:],
            one.completion_ids[:, :length],
            one.completion_mask[:, :length],
            one.end_token_ids,
        )
        gap = apart(chosen_logprobs(policy, alone, score), together[place : place + 1, :length], alone.completion_mask)
        worst = max(worst, gap)
    if worst <= tolerance:
        return []
    return [Cause("padding", f"a row scored alone differs by up to {worst:.2g} nats a token from the padded batch")]


def rounding_of(model: Any, few: Sampled, score: Score) -> float:
    """Nats by which rounding alone may move a log-prob of `model`: `ROUNDING`, or in half precision what is measured.

    There it is twice the largest difference that another precision makes on a few rows: batch shape, cache and
    kernels round differently.
    """
    if working_precision(model) not in HALF or is_cut(model):
        return ROUNDING
    ours, other = (chosen_logprobs(m, few, score) for m in (model, _in_precision(model, torch.float32)))
    return max(ROUNDING, 2 * apart(ours, other, few.completion_mask))


def working_precision(model: Any) -> torch.dtype:
    """The type that a model multiplies in: autocast's, or its parameters'; float32 without parameters."""
    if not isinstance(model, torch.nn.Module):
        return torch.float32
    first = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    if torch.is_autocast_enabled(first.device.type) and first.dtype == torch.float32:
        return torch.get_autocast_dtype(first.device.type)
    return first.dtype


class _Plain(torch.nn.Module):
    """A model without the autocast around it."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, **inputs: Any) -> Any:
        with torch.autocast(next(self.model.parameters()).device.type, enabled=False):
            return self.model(**inputs)


def _in_precision(model: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    weights = {p.dtype for p in model.parameters() if p.is_floating_point()}
    return _Plain(model if weights == {dtype} else copy.deepcopy(model).to(dtype))


def rounding_fault(model: Any, sampled: Sampled, recorded: Tensor, score: Score) -> list[Cause]:
    """Recorded log-probs (B, T) that differ from the model's as those of another precision do, and by as much.

    The model is read once more in float32 if it works in half precision, else in bf16 and in fp16. A model in half
    precision cannot tell a smaller difference than its own rounding. Else the difference must leave the same trace:
    rounded weights move recorded and re-read log-probs alike (correlation 0.5 and more on a real model, 0 for weights
    that were trained further), by at most twice the standard deviation.
    """
    if not isinstance(model, torch.nn.Module) or is_cut(model):  # one that is cut has no copy
        return []
    few, mask = sampled.rows(slice(0, ROUNDED_ROWS)), sampled.completion_mask[:ROUNDED_ROWS]
    ours, precision = chosen_logprobs(model, few, score).double(), working_precision(model)
    gap = (recorded[:ROUNDED_ROWS].double() - ours)[mask]
    for dtype in [torch.float32] if precision in HALF else list(HALF):
        other = chosen_logprobs(_in_precision(model, dtype), few, score).double()
        trace = (other - ours)[mask]
        size, traced = float(gap.square().mean().sqrt()), float(trace.square().mean().sqrt())
        alike = float((gap * trace).mean()) / max(1e-12, size * traced)
        same_trace = size <= 2 * traced and alike > 0.25 and alike * len(gap) ** 0.5 > 4
        if same_trace or (precision in HALF and size <= 1.2 * traced):
            name = HALF[precision if precision in HALF else dtype]
            text = f"recorded log-probs differ by {size:.2g} nats a token (r.m.s.), rounding makes {traced:.2g}"
            return [Cause(f"{name} rounding", f"{text} (correlation {alike:.2f})")]
    return []


def dropout_noise(policy: Any, sampled: Sampled, score: Score) -> float:
    """Mean |Δ log-prob| that training mode makes on a few rows, nats; 0 without dropout."""
    if not isinstance(policy, torch.nn.Module):
        return 0.0
    few = sampled.rows(slice(0, 32))
    still = chosen_logprobs(policy, few, score)
    modes = [(module, module.training) for module in policy.modules()]
    with torch.random.fork_rng():
        policy.train()
        noisy = chosen_logprobs(policy, few, score)
    for module, mode in modes:
        module.training = mode
    return apart(still, noisy, few.completion_mask, mean=True)


def repeats_agree(sampled: Sampled) -> bool:
    """Whether first tokens that were sampled twice after one prompt have one recorded log-prob; weights give one."""
    assert sampled.logprobs is not None
    seen: dict[tuple[object, ...], list[float]] = {}
    for row in range(len(sampled)):
        prompt = sampled.prompt_ids[row][sampled.prompt_mask[row]].tolist()
        key = (*prompt, None, int(sampled.completion_ids[row, 0]))
        seen.setdefault(key, []).append(float(sampled.logprobs[row, 0]))
    return all(max(values) - min(values) <= ROUNDING for values in seen.values())
