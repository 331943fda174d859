"""Why samples and the policy they are said to come from disagree, told from the samples.

Shapes: B completions, P prompt tokens (left-padded), T completion tokens (right-padded), V vocabulary, N real tokens.

Faults of the machinery come first, since they spoil everything after them (machinery.py): masks that do not follow from
the ids, dropout, padding. Then log-probs, or a reference, from other weights or another precision. Then the sampler
(fitting.py): the one that makes the sampled tokens likeliest is named if they are likelier so by at least `MIN_GAIN`
nats, and if they then look like its own in every trait that is tested (goodness.py). What is left over makes it "none
of the known". Of several faults the strongest is named; mend it and look again.

A diagnosis reads at most 2^26 logits and 2^13 tokens (evidence.py), kept in memory (256 MB), and goes over them some
hundreds of times, over the 512 likeliest of each prefix where the vocabulary is larger: a second for a small
vocabulary. The prompts are tried at some 20 lengths (cut_prompts.py). Models in half precision
are copied to float32 for a few rows; a float32 policy is copied to bf16 and fp16 only if recorded log-probs are not its
own.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from rlhf.ppo.cut_prompts import cut_fit
from rlhf.ppo.evidence import POLICY, Evidence, evidence, readable
from rlhf.ppo.fitting import Fit, fitted, worth_naming
from rlhf.ppo.goodness import MIN_GAIN
from rlhf.ppo.machinery import (
    Cause,
    dropout_noise,
    machinery_causes,
    repeats_agree,
    rounding_fault,
    working_precision,
)
from rlhf.ppo.precision import HALF
from rlhf.ppo.sampled import ROUNDING, Sampled, Score, apart, chosen_logprobs, vocabulary_of
from rlhf.ppo.samplers import Sampler

UNKNOWN = "none of the known"
# A sampler explains recorded log-probs if it leaves at most this share of their distance to the policy's own.
LEFT_OVER = 0.15


def causes(policy: Any, reference: Any, sampled: Sampled, score: Score) -> list[Cause]:
    """What makes the samples of `sampled` disagree with `policy`, which must still be the one said to have sampled."""
    found = machinery_causes(policy, reference, sampled, score)
    if found:
        return found
    sampled = readable(sampled, vocabulary_of(policy, sampled, score))
    if sampled.ref_logprobs is not None:
        found += reference_fault(reference, sampled, sampled.ref_logprobs, score)
    read = evidence(policy, sampled, score)
    fits = fitted(read)
    if (shorter := cut_fit(policy, sampled, score, read)) is not None:
        fits.append(shorter)
    if sampled.logprobs is not None:
        found += recorded_fault(policy, sampled, sampled.logprobs, score, read, fits)
    return found or sampler_fault(read, fits)


def reference_fault(reference: Any, sampled: Sampled, recorded: Tensor, score: Score) -> list[Cause]:
    """Recorded log-probs (B, T) that are not the reference's own."""
    gap = apart(chosen_logprobs(reference, sampled, score), recorded, sampled.completion_mask, mean=True)
    if gap <= ROUNDING:
        return []
    if rounded := rounding_fault(reference, sampled, recorded, score):
        return rounded
    text = f"its recorded log-probs are {gap:.2g} nats a token from the reference's own"
    return [Cause("stale reference", text)]


def sampler_fault(read: Evidence, fits: list[Fit]) -> list[Cause]:
    """The likeliest altered sampler if it leaves no misfit; "none of the known" if it does, or if none is likelier."""
    best = worth_naming(fits)
    misfits = (best.read.traits(best.sampler) if best else read.traits(POLICY)).misfits()
    if best is None:
        return [Cause(UNKNOWN, f"{misfits[0]}, and no sampler tried explains it")] if misfits else []
    if misfits:
        return [Cause(UNKNOWN, f"the nearest, {best.name} {best.setting}, does not fit: {misfits[0]}")]
    return [Cause(best.name, f"{best.setting}: the samples are {best.gain:.0f} nats likelier so")]


def recorded_fault(
    policy: Any, sampled: Sampled, recorded: Tensor, score: Score, read: Evidence, fits: list[Fit]
) -> list[Cause]:
    """Recorded log-probs that are not the policy's: another precision, an altered sampler, dropout, other weights."""
    mask = sampled.completion_mask
    own, theirs = read.logprobs(POLICY), recorded[mask].double()
    gap = (theirs - own).abs()
    if float(gap.mean()) <= ROUNDING:
        return slight_rounding(policy, float(gap.max()))
    padded = (~sampled.prompt_mask).any(-1)[:, None].expand_as(mask)[mask]
    if bool(padded.any()) and not bool(padded.all()) and float(gap[~padded].mean()) <= ROUNDING:
        return [Cause("padding", "recorded log-probs are right on rows without padding, wrong on those with it")]
    if rounded := rounding_fault(policy, sampled, recorded, score):
        return rounded
    scorers = [(fit.name, fit.setting, fit.logprobs) for fit in fits]
    scorers += [closest(read, theirs, "temperature"), closest(read, theirs, "repetition_penalty")]
    name, setting, logprobs = min(scorers, key=lambda scorer: float((theirs - scorer[2]).abs().mean()))
    if float((theirs - logprobs).abs().mean()) < LEFT_OVER * float(gap.mean()):
        return [Cause(name, f"{setting}: the recorded log-probs are those of that sampler")]
    if dropout_noise(policy, sampled, score) > ROUNDING and not repeats_agree(sampled):
        return [Cause("dropout", "recorded log-probs of the same token after the same prompt differ")]
    text = f"recorded log-probs are {float(gap.mean()):.2g} nats a token from the policy's own"
    # Tokens are likelier under what sampled them than under anything else: by c nats less with a chance of e^-c.
    if (short := float((own - theirs).sum())) >= MIN_GAIN:
        return [Cause(UNKNOWN, f"{text} and make the samples {short:.0f} nats less likely than the policy does")]
    return [Cause("stale policy", text)]


def slight_rounding(policy: Any, most: float) -> list[Cause]:
    """A policy in half precision whose recorded log-probs differ by `most` nats at a few tokens alone."""
    name = HALF.get(working_precision(policy))
    if name is None or most <= ROUNDING:
        return []
    return [Cause(f"{name} rounding", f"recorded log-probs differ by at most {most:.2g} nats, at few tokens")]


def closest(read: Evidence, recorded: Tensor, setting: str) -> tuple[str, str, Tensor]:
    """The temperature or repetition penalty whose log-probs (N,) are nearest to the recorded ones.

    Returns its name, its setting, and the log-probs. It is looked for on the first 512 tokens, to 2 %.
    """
    few, theirs = read.head(512), recorded[:512]

    def sampler(value: float) -> Sampler:
        return POLICY.at(setting, value)

    def away(value: float) -> float:
        return float((theirs - few.logprobs(sampler(value))).abs().mean())

    near = min((2.0 ** (i / 4) for i in range(-8, 9)), key=away)
    best = min((near * 2.0 ** (i / 32) for i in range(-8, 9)), key=away)
    return setting.replace("_", " "), f"{best:.2f}", read.logprobs(sampler(best))
