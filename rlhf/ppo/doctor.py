"""The doctor: notices that samples and policy disagree, and names the cause it found.

Symptoms cost next to nothing, since a rollout holds what most of them need; a cause is looked for only after a symptom:
1. k1 against the exact per-prefix KL, paired by completion: their difference has mean 0 for samples of the policy.
2. k1 significantly negative: a KL cannot be.
3. Surprisal -log π of a completion against the entropies along it, paired: mean 0 as well, and already at KL 0.
4. Log-probs as the sampler saw them against those of scoring: equal up to rounding. Scoring may have taken the states
   that passed by in sampling (passing.py), so 8 completions are read again by a plain pass. Of an engine that samples
   in the policy's place (who_samples.py) they are its own, and the cause is told in its words (engine_causes.py).
5. The first update's ratio: 1 up to rounding, since the policy that sampled is the one updated.
6. Traits of the tokens (goodness.py): repeats of tokens, pairs and triples, end tokens early and late, likely and
   unlikely tokens, each token's own count; all as often as the policy gives them. Counted in an eighth of the rollout,
   32 completions at least, while it is measured.
7. The reference's log-probs on a fixed probe: as they were when the run began.

Symptoms 1 to 3 are said beyond 4 standard errors, 6 beyond 12 nats (4.9 standard errors for each of two dozen traits).
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlhf.foundation.errors import InputError
from rlhf.ppo.config import PPOConfig
from rlhf.ppo.diagnosis import causes
from rlhf.ppo.engine_causes import expected_of_engine, of_engine
from rlhf.ppo.evidence import traits_of
from rlhf.ppo.forward import completion_logits, rows_per_chunk
from rlhf.ppo.goodness import Traits
from rlhf.ppo.machinery import Cause, machinery_causes
from rlhf.ppo.objective import exact_kl, gathered, kl_k1
from rlhf.ppo.precision import full, trunk_precision
from rlhf.ppo.rollout import Rollout
from rlhf.ppo.rounding import Rounding, lost_updates, rounding_cause, rounding_of_run
from rlhf.ppo.sampled import ROUNDING, Sampled, Score, chosen_logprobs

THRESHOLD = 4.0  # standard errors
MAX_RATIO_DEVIATION = 1e-3
# Nats by which float32 rounding may move a sum over one completion; below it nothing is said, however significant.
NEGLIGIBLE = 1e-3
READ_AGAIN = 8  # completions


class Symptom(NamedTuple):
    """`name` as in the list above, `text` with its figures."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was noticed, and why; healthy when nothing was."""

    symptoms: list[Symptom] = field(default_factory=list)
    causes: list[Cause] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        """Whether nothing was noticed."""
        return not self.symptoms

    def to_json(self) -> dict[str, Any] | None:
        """As the `doctor` key of metrics.jsonl; None when healthy."""
        if self.healthy:
            return None
        return {
            "symptoms": {symptom.name: symptom.text for symptom in self.symptoms},
            "causes": {cause.name: cause.evidence for cause in self.causes},
        }

    def __str__(self) -> str:
        if self.healthy:
            return "healthy"
        named = "; ".join(map(str, self.causes)) or "none found"
        return f"{', '.join(symptom.text for symptom in self.symptoms)}; cause: {named}"


def standard_errors(values: Tensor) -> float:
    """Mean over its standard error of (B,); 0 where the mean is within rounding of 0 or nothing varies."""
    mean, error = float(values.mean()), float(values.std()) / math.sqrt(max(1, len(values)))
    return mean / error if abs(mean) > NEGLIGIBLE and error > 0 else 0.0


def paired_symptoms(k1: Tensor, exact: Tensor, surprisal: Tensor, entropy: Tensor) -> list[Symptom]:
    """Symptoms 1 to 3; each (B,), sums over a completion in nats."""
    found = []
    if abs(errors := standard_errors(k1 - exact)) > THRESHOLD:
        mean = float((k1 - exact).mean())
        text = f"k1 is {abs(mean):.3g} nats {'above' if mean > 0 else 'below'} the exact KL"
        found.append(Symptom("k1 is not the KL", f"{text} ({abs(errors):.1f} standard errors)"))
    if (errors := standard_errors(k1)) < -THRESHOLD:
        text = f"k1 is {float(k1.mean()):.3g} nats ({-errors:.1f} standard errors below 0)"
        found.append(Symptom("k1 is negative", text))
    if abs(errors := standard_errors(surprisal - entropy)) > THRESHOLD:
        mean = float((surprisal - entropy).mean())
        text = f"completions are {abs(mean):.3g} nats {'less' if mean > 0 else 'more'} likely than the policy's own"
        found.append(Symptom("samples are not the policy's", f"{text} ({abs(errors):.1f} standard errors)"))
    return found


def ratio_symptom(max_deviation: float) -> list[Symptom]:
    """Symptom 5, from max |ratio - 1| over the tokens of the first update."""
    if max_deviation <= MAX_RATIO_DEVIATION:
        return []
    return [Symptom("first ratio is not 1", f"the first update's ratio is off 1 by {max_deviation:.2g}")]


def sampler_symptom(
    sampler_logprobs: Tensor, logprobs: Tensor, mask: Tensor, rounding: float = ROUNDING
) -> list[Symptom]:
    """Symptom 4; each (B, T), `rounding` in nats a token."""
    gap = float((sampler_logprobs - logprobs)[mask].abs().mean()) if bool(mask.any()) else 0.0
    if gap <= rounding:
        return []
    text = f"scoring is {gap:.2g} nats a token from what the sampler saw"
    return [Symptom("sampler and scoring differ", text)]


def trait_symptoms(traits: Traits) -> list[Symptom]:
    """Symptom 6: the strongest trait, and tokens that never come."""
    found = [Symptom("traits are not the policy's", str(misfit)) for misfit in traits.misfits()[:1]]
    if absent := traits.absent():
        found.append(Symptom("tokens never come", f"{len(absent)} tokens that the policy gives never came"))
    return found


def examine(
    policy: Any,
    reference: Any,
    sampled: Sampled,
    *,
    suppress_tokens: Sequence[int] = (),
    logits_memory_mb: int | None = None,
) -> Diagnosis:
    """Examine rollouts from anywhere: `policy` is the causal LM said to have sampled them, `reference` the original.

    Everything is computed anew at temperature 1; log-probs recorded with the samples, if given, are compared with it
    (max |exp(new - recorded) - 1| is the ratio of a first update). `suppress_tokens` are those that both models are
    meant to leave out. Raises InputError on tensors whose shapes do not fit.
    """
    _require_shapes(sampled)
    dtype = "float64" if next(policy.parameters()).dtype == torch.float64 else "float32"
    config = PPOConfig(
        output_dir="-", suppress_tokens=list(suppress_tokens), dtype=dtype, logits_memory_mb=logits_memory_mb
    )
    score = scoring(config)
    vocabulary = int(score(policy, *_inputs(sampled.rows(slice(0, 1)))).shape[-1])
    device = next(policy.parameters()).device
    rows = rows_per_chunk(sampled.completion_ids.shape[1], vocabulary, config, device)
    sums, ratios = [], [0.0]
    for start in range(0, len(sampled), rows):
        part = sampled.rows(slice(start, start + rows))
        columns, deviation = _measure(policy, reference, part, score)
        sums.append(columns)
        ratios.append(deviation)
    k1, exact, surprisal, entropy = torch.cat(sums, 1)
    symptoms = paired_symptoms(k1, exact, surprisal, entropy) + ratio_symptom(max(ratios))
    symptoms += trait_symptoms(traits_of(policy, sampled, score))
    if not symptoms and sampled.ref_logprobs is None:
        return Diagnosis()
    found = causes(policy, reference, sampled, score)
    if not symptoms and found:  # log-probs of another reference can agree in the mean
        symptoms = [Symptom("reference changed", "recorded log-probs of the reference are not its own")]
    return Diagnosis(symptoms, found)


class Doctor:
    """Looks at every rollout of a training run; see the list above. Each process comes to the same diagnosis."""

    def __init__(self, policy: Any, reference: Any, probe: Sequence[int], config: PPOConfig, *, speaks: bool) -> None:
        """`probe` is a short prompt as ids; `speaks` is whether this process warns on stderr."""
        self.policy, self.reference, self.config, self.speaks = policy, reference, config, speaks
        self.probe = torch.tensor([list(probe)], device=next(policy.parameters()).device)
        self._score, self._in_float32 = scoring(config), scoring(dataclasses.replace(config, bf16=False))
        self.rounding = Rounding(ROUNDING, ROUNDING)
        self.at_start = self._reference_on_probe()
        self.diagnosis, self.said = Diagnosis(), ""
        self._sampled: Sampled | None = None

    def look(self, rollout: Rollout) -> Diagnosis:
        """Examine a rollout before its update, while the policy is still the one that sampled it."""
        mask = rollout.completion_mask
        surprisal = -torch.where(mask, rollout.old_logprobs, 0.0).sum(-1)
        symptoms = paired_symptoms(rollout.k1, rollout.kl, surprisal, rollout.entropy)
        sampled = rollout.sampled
        self.rounding = rounding_of_run(self.policy, sampled, self.config, self._score, self._in_float32)
        if rollout.by_engine:
            self.rounding = expected_of_engine(self.rounding, self.config)
        if self.config.temperature == 1:
            symptoms += sampler_symptom(rollout.sampler_logprobs, rollout.old_logprobs, mask, self.rounding.mean)
        if not symptoms and not rollout.by_engine:
            few = sampled.rows(slice(0, READ_AGAIN))
            plain = chosen_logprobs(self.policy, few, self._score)
            seen = rollout.sampler_logprobs[:READ_AGAIN]
            symptoms += sampler_symptom(seen, plain, few.completion_mask, self.rounding.mean)
        if rollout.traits is not None:
            symptoms += trait_symptoms(rollout.traits)
        moved = float((self._reference_on_probe() - self.at_start).abs().max())
        if moved > ROUNDING:
            symptoms.append(Symptom("reference changed", f"the reference moved by {moved:.2g} nats on the probe"))
        self._sampled = sampled
        found = self._causes(moved) if symptoms else []
        self.diagnosis = Diagnosis(symptoms, of_engine(found) if rollout.by_engine else found)
        return self.diagnosis

    def report(self, iteration: int, max_deviation: float | None) -> dict[str, Any] | None:
        """Add the first update's max |ratio - 1| (None without one), warn, and return the `doctor` key."""
        sampled, self._sampled = self._sampled, None  # two rollouts need not be held at once
        late = ratio_symptom(max_deviation or 0.0)
        if late:
            found = self.diagnosis.causes or rounding_cause(max_deviation or 0.0, self.rounding, self.config)
            if not found and sampled is not None:
                with trunk_precision(self.config, self.probe.device):
                    found = machinery_causes(self.policy, self.reference, sampled, self._score)
            self.diagnosis = Diagnosis([*self.diagnosis.symptoms, *late], found)
        named = ", ".join(cause.name for cause in self.diagnosis.causes)
        kind = f"{[symptom.name for symptom in self.diagnosis.symptoms]} {named}"
        if not self.diagnosis.healthy and self.speaks and kind != self.said:
            print(f"rlhf: warning: doctor, iteration {iteration}: {self.diagnosis}", file=sys.stderr)
            self.said = kind
        return self.diagnosis.to_json()

    def _causes(self, reference_moved: float) -> list[Cause]:
        assert self._sampled is not None
        if reference_moved > ROUNDING:
            return [Cause("stale reference", "its log-probs on a fixed probe are not those the run began with")]
        if self.config.temperature != 1:
            return [Cause("temperature", f"--temperature {self.config.temperature:g} while KL is taken at 1")]
        if lost := lost_updates(self.rounding, self.config):
            return lost
        with trunk_precision(self.config, self.probe.device):
            return causes(self.policy, self.reference, self._sampled, self._score)

    @torch.no_grad()
    def _reference_on_probe(self) -> Tensor:
        logits: Tensor = self.reference(input_ids=self.probe).logits[0, -1]
        return logits.double().log_softmax(-1).cpu()


def scoring(config: PPOConfig) -> Score:
    """The run's own way of scoring, at temperature 1."""
    at_one = dataclasses.replace(config, temperature=1.0)

    def score(model: Any, prompt_ids: Tensor, prompt_mask: Tensor, completion_ids: Tensor) -> Tensor:
        parameters = getattr(model, "parameters", None) or model.model.parameters  # AdapterOff wraps the policy
        device = next(parameters()).device
        logits = completion_logits(
            model, prompt_ids.to(device), prompt_mask.to(device), completion_ids.to(device), at_one
        )
        return full(logits)  # the softmax must not round once more

    return score


def _inputs(sampled: Sampled) -> tuple[Tensor, Tensor, Tensor]:
    return sampled.prompt_ids, sampled.prompt_mask, sampled.completion_ids


@torch.no_grad()
def _measure(policy: Any, reference: Any, part: Sampled, score: Score) -> tuple[Tensor, float]:
    """k1, exact KL, surprisal and entropy (4, b) of some rows, and max |ratio - 1| to the recorded log-probs."""
    mask, ids = part.completion_mask, part.completion_ids
    logp, logq = (score(model, *_inputs(part)).cpu().log_softmax(-1) for model in (policy, reference))
    own, ref = gathered(logp, ids).double(), gathered(logq, ids).double()
    exact = exact_kl(logp, logq)
    recorded = own if part.logprobs is None else part.logprobs.double()
    ref_recorded = ref if part.ref_logprobs is None else part.ref_logprobs.double()
    columns = [
        kl_k1(recorded, ref_recorded, mask),
        torch.where(mask, exact.kl, 0.0).double().sum(-1),
        -torch.where(mask, own, 0.0).sum(-1),
        torch.where(mask, exact.entropy, 0.0).double().sum(-1),
    ]
    gap = torch.where(mask, own - recorded, 0.0).clamp(-20, 20)
    return torch.stack(columns), float((gap.exp() - 1).abs().max())


def _require_shapes(sampled: Sampled) -> None:
    shape = sampled.completion_ids.shape
    tokens = {
        "completion_mask": sampled.completion_mask,
        "logprobs": sampled.logprobs,
        "ref_logprobs": sampled.ref_logprobs,
    }
    for name, tensor in tokens.items():
        if tensor is not None and tensor.shape != shape:
            raise InputError(
                name, got=f"shape {tuple(tensor.shape)}", expected=f"{tuple(shape)}, as completion_ids", fix="pad it"
            )
    if len(shape) != 2 or shape[0] < 2 or sampled.prompt_ids.shape != sampled.prompt_mask.shape:
        raise InputError(
            "rollouts",
            got=f"completion_ids of shape {tuple(shape)}, prompts of {tuple(sampled.prompt_ids.shape)}",
            expected="(B, T) and (B, P) with B at least 2",
            fix="give ids and masks of whole batches",
        )
