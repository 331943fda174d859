"""Prompts that were cut before sampling and scored whole: to which length, told from the samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rlhf.language_model.sampler import pad_prompts
from rlhf.ppo.evidence import POLICY, Evidence, evidence
from rlhf.ppo.fitting import Fit
from rlhf.ppo.sampled import Sampled, Score, chosen_logprobs


def cut_fit(policy: Any, sampled: Sampled, score: Score, read: Evidence) -> Fit | None:
    """The length that prompts were cut to before sampling, if that makes the samples likelier.

    Lengths are tried on the first 8 tokens of the completions of the 8 longest prompts: powers of 2 and those halfway
    between, then nearer and nearer to the best, which is then fitted to everything that was read. Both sides together
    cost about two passes over what was read.
    """
    lengths = sampled.prompt_mask.sum(-1)
    longest = int(lengths.max())
    if longest < 2:
        return None
    few = sampled.rows([int(i) for i in lengths.argsort(descending=True)[:8]]).head(8)

    def likelihood(side: str, length: int) -> float:
        return float(chosen_logprobs(policy, cut(few, side, length), score)[few.completion_mask].double().sum())

    best = max((_best_length(side, longest, likelihood) for side in ("last", "first")), key=lambda found: found[0])
    _, length, side = best
    shorter = evidence(policy, cut(sampled, side, length), score)
    logprobs = shorter.logprobs(POLICY)
    gain = float((logprobs - read.logprobs(POLICY)).sum())
    text = f"the sampler saw the {side} {length} tokens of each prompt"
    return Fit({"cut prompts": text}, logprobs, gain, 1, shorter, POLICY) if gain > 0 else None


def _best_length(side: str, longest: int, likelihood: Callable[[str, int], float]) -> tuple[float, int, str]:
    rough = {length for i in range(longest.bit_length()) for length in (2**i, 3 * 2**i) if length < longest}
    tried = {length: likelihood(side, length) for length in sorted(rough)}
    best = max(tried, key=lambda length: tried[length])
    step = max(1, best // 4)
    while step:
        near = [length for length in (best - step, best + step) if 0 < length < longest and length not in tried]
        tried |= {length: likelihood(side, length) for length in near}
        better = max(tried, key=lambda length: tried[length])
        step, best = (step if better != best else step // 2), better
    return tried[best], best, side


def cut(sampled: Sampled, side: str, length: int) -> Sampled:
    """The same completions after the last (or first) `length` tokens of their prompts."""
    prompts = [ids[mask].tolist() for ids, mask in zip(sampled.prompt_ids, sampled.prompt_mask, strict=True)]
    ids, mask = pad_prompts([p[-length:] if side == "last" else p[:length] for p in prompts], sampled.end_token_ids[0])
    return Sampled(ids, mask, sampled.completion_ids, sampled.completion_mask, sampled.end_token_ids)
