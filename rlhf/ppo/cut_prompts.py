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

    Lengths are tried on the first 8 tokens of the completions of the 8 longest prompts, first widely, then near the
    best; the best is then fitted to everything that was read.
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
    tried: dict[int, float] = {}
    step = max(1, longest // 8)
    wide = [*range(1, longest, step), *(2**i for i in range(longest.bit_length()) if 2**i < longest)]
    while True:
        tried |= {length: likelihood(side, length) for length in wide if length not in tried}
        best = max(tried, key=lambda length: tried[length])
        if step == 1:
            return tried[best], best, side
        near, step = step, max(1, step // 4)
        wide = [length for length in range(best - near, best + near + 1, step) if 0 < length < longest]


def cut(sampled: Sampled, side: str, length: int) -> Sampled:
    """The same completions after the last (or first) `length` tokens of their prompts."""
    prompts = [ids[mask].tolist() for ids, mask in zip(sampled.prompt_ids, sampled.prompt_mask, strict=True)]
    ids, mask = pad_prompts([p[-length:] if side == "last" else p[:length] for p in prompts], sampled.end_token_ids[0])
    return Sampled(ids, mask, sampled.completion_ids, sampled.completion_mask, sampled.end_token_ids)
