"""Why samples and the policy they are said to come from disagree: one cause at a time, told from the samples.

Shapes: B completions, P prompt tokens (left-padded), T completion tokens (right-padded), V vocabulary, N real tokens.

Faults of the machinery come first, since they spoil everything after them: masks that do not follow from the ids,
dropout (two passes over the same rows differ), padding (a row scored alone differs), log-probs or a reference from
other weights. Then the sampler: each altered sampler (another temperature, top-k, top-p, suppressed tokens) is fitted
to the sampled tokens, and the one that makes them likeliest is named, if it gains at least `MIN_GAIN` nats over the
policy itself. Of several faults the strongest is named; mend it and look again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlhf.language_model.sampler import chunks
from rlhf.ppo.objective import gathered

# Fitted on samples of the policy itself, one more parameter gains about half a nat; e^-12 is 4.3 standard errors' tail.
MIN_GAIN = 12.0
# Nats by which two passes over the same row may differ through rounding alone (float32; other batch shapes).
ROUNDING = 1e-3
# Numbers (tokens times vocabulary) that a diagnosis reads at most, and that are held at once.
READ_AT_MOST, HELD_AT_ONCE = 2**28, 2**20

Score = Callable[[Any, Tensor, Tensor, Tensor], Tensor]
"""`score(model, prompt_ids, prompt_mask, completion_ids)` returns logits (b, T, V) at temperature 1."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """Completions as they were sampled and what was recorded with them; log-probs in nats, whatever where masked."""

    prompt_ids: Tensor  # (B, P)
    prompt_mask: Tensor  # (B, P) bool
    completion_ids: Tensor  # (B, T)
    completion_mask: Tensor  # (B, T) bool
    end_token_ids: tuple[int, ...]
    logprobs: Tensor | None = None  # (B, T) of the policy, as recorded
    ref_logprobs: Tensor | None = None  # (B, T) of the original, as recorded

    def __len__(self) -> int:
        return len(self.completion_ids)

    def rows(self, picked: slice | list[int]) -> Sampled:
        """Some of the completions."""
        return Sampled(
            self.prompt_ids[picked],
            self.prompt_mask[picked],
            self.completion_ids[picked],
            self.completion_mask[picked],
            self.end_token_ids,
            self.logprobs[picked] if self.logprobs is not None else None,
            self.ref_logprobs[picked] if self.ref_logprobs is not None else None,
        )


class Cause(NamedTuple):
    """`name`: temperature, top-k, top-p, suppressed tokens, dropout, padding, stale reference or stale policy."""

    name: str
    evidence: str

    def __str__(self) -> str:
        return f"{self.name} ({self.evidence})"


def machinery_causes(policy: Any, reference: Any, sampled: Sampled, score: Score) -> list[Cause]:
    """Faults that do not depend on how far the policy has moved since it sampled: masks, dropout, padding."""
    found = mask_faults(sampled)
    few = sampled.rows(slice(0, 16))
    for name, model in (("policy", policy), ("reference", reference)):
        first, second = (_chosen(model, few, score) for _ in range(2))
        if _apart(first, second, few.completion_mask) > ROUNDING:
            found.append(Cause("dropout", f"two passes of the {name} over the same rows differ"))
    if not found:
        found += padding_fault(policy, sampled, score)
    return found


def causes(policy: Any, reference: Any, sampled: Sampled, score: Score) -> list[Cause]:
    """What makes the samples of `sampled` disagree with `policy`, which must still be the one said to have sampled."""
    found = machinery_causes(policy, reference, sampled, score)
    if found:
        return found
    count = _rows_to_read(policy, sampled, score)
    sampled = sampled.rows(slice(0, count))
    evidence = Evidence(policy, sampled, score)
    if sampled.ref_logprobs is not None:
        ours = _chosen(reference, sampled, score)
        gap = _apart(ours, sampled.ref_logprobs, sampled.completion_mask, mean=True)
        if gap > ROUNDING:
            found.append(
                Cause("stale reference", f"its recorded log-probs are {gap:.2g} nats a token from the reference's own")
            )
    samplers = evidence.samplers()
    if sampled.logprobs is not None:
        found += recorded_fault(policy, sampled, score, evidence, samplers)
    if not found:
        found += sampler_fault(samplers)
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


def padding_fault(policy: Any, sampled: Sampled, score: Score) -> list[Cause]:
    """Rows with the most padding, scored as they are and alone without any."""
    padding = (~sampled.prompt_mask).sum(-1)
    picked = [int(i) for i in padding.argsort(descending=True)[:8] if padding[i] > 0]
    if not picked:
        return []
    together = _chosen(policy, sampled.rows(picked), score)
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
        gap = _apart(_chosen(policy, alone, score), together[place : place + 1, :length], alone.completion_mask)
        worst = max(worst, gap)
    if worst <= ROUNDING:
        return []
    return [Cause("padding", f"a row scored alone differs by up to {worst:.2g} nats a token from the padded batch")]


class Sampler(NamedTuple):
    """A sampler that may have made the samples: log-probs (N,) of the sampled tokens under it, nats."""

    name: str
    setting: str
    logprobs: Tensor
    gain: float  # log-likelihood above the policy's own


class Evidence:
    """Two passes over the policy's next-token distributions, in pieces: what fitting the samplers needs."""

    def __init__(self, policy: Any, sampled: Sampled, score: Score) -> None:
        self.policy, self.sampled, self.score = policy, sampled, score
        self.vocabulary = _vocabulary(policy, sampled, score)
        self.temperatures = torch.tensor([2.0 ** (i / 4) for i in range(-8, 9)], dtype=torch.float64)
        self._first_pass()

    def _distributions(self) -> Iterator[tuple[Tensor, Tensor]]:
        return distributions(self.policy, self.sampled, self.score)

    @torch.no_grad()
    def _first_pass(self) -> None:
        own, ranks, before, tempered = [], [], [], []
        self.expected = torch.zeros(self.vocabulary, dtype=torch.float64)
        self.observed = torch.zeros(self.vocabulary, dtype=torch.long)
        for logp, ids in self._distributions():
            chosen = gathered(logp[None], ids[None])[0]
            likelier, p = logp > chosen[:, None], logp.exp()
            own.append(chosen.double().cpu())
            ranks.append(likelier.sum(-1).cpu())
            before.append(torch.where(likelier, p, 0.0).sum(-1).double().cpu())
            tempered.append(_tempered(logp, chosen, self.temperatures))
            self.expected += p.double().sum(0).cpu()
            self.observed += ids.bincount(minlength=self.vocabulary).cpu()
        self.logprobs, self.tempered = torch.cat(own), torch.cat(tempered)
        self.top_k = int(torch.cat(ranks).max()) + 1
        self.top_p = float(torch.cat(before).max())
        self.absent = overdue(self.expected, self.observed)

    @torch.no_grad()
    def finer_temperature(self, place: int, recorded: Tensor | None) -> tuple[float, Tensor]:
        """The best temperature near the grid's `place`, and the log-probs (N,) under it.

        Best is the likeliest for the samples, or with `recorded` log-probs (N,) the one closest to them.
        """
        finer = torch.tensor([float(self.temperatures[place]) * 2 ** (i / 32) for i in range(-8, 9)])
        pieces = [_tempered(logp, gathered(logp[None], ids[None])[0], finer) for logp, ids in self._distributions()]
        table = torch.cat(pieces)
        if recorded is None:
            best = int(table.sum(0).argmax())
        else:
            best = int((table - recorded[:, None]).abs().mean(0).argmin())
        return float(finer[best]), table[:, best]

    @torch.no_grad()
    def samplers(self) -> list[Sampler]:
        """The fitted samplers, the likeliest first."""
        temperature, at_temperature = self.finer_temperature(int(self.tempered.sum(0).argmax()), None)
        by_k, by_p, kept = [], [], []
        for logp, _ in self._distributions():
            ordered = logp.exp().double().sort(-1, descending=True).values
            by_k.append(ordered[:, : self.top_k].sum(-1).cpu())
            cumulative = ordered.cumsum(-1)
            by_p.append(torch.where(cumulative - ordered <= self.top_p + 1e-9, ordered, 0.0).sum(-1).cpu())
            kept.append(1 - logp[:, self.absent.to(logp.device)].exp().double().sum(-1).cpu())
        names = ", ".join(str(int(i)) for i in self.absent[:5]) + ("" if len(self.absent) <= 5 else ", ...")
        candidates = [
            ("temperature", f"{temperature:.2f}", at_temperature),
            ("top-k", f"k = {self.top_k}", self.logprobs - torch.cat(by_k).log()),
            ("top-p", f"p = {self.top_p:.2f}", self.logprobs - torch.cat(by_p).log()),
        ]
        if len(self.absent):
            text = f"{len(self.absent)} never sampled: {names}"
            candidates.append(("suppressed tokens", text, self.logprobs - torch.cat(kept).log()))
        own = float(self.logprobs.sum())
        fitted = [Sampler(name, setting, lp, float(lp.sum()) - own) for name, setting, lp in candidates]
        return sorted(fitted, key=lambda sampler: -sampler.gain)


def sampler_fault(samplers: list[Sampler]) -> list[Cause]:
    """The likeliest altered sampler, if the samples are better explained by it than by the policy."""
    best = samplers[0]
    if best.gain < MIN_GAIN:
        return []
    return [Cause(best.name, f"{best.setting}: the samples are {best.gain:.0f} nats likelier so")]


def recorded_fault(
    policy: Any, sampled: Sampled, score: Score, evidence: Evidence, samplers: list[Sampler]
) -> list[Cause]:
    """Recorded log-probs that are not the policy's: scored by an altered sampler, with dropout, or by other weights."""
    assert sampled.logprobs is not None
    mask = sampled.completion_mask
    recorded = sampled.logprobs[mask].double()
    gap = (recorded - evidence.logprobs).abs()
    if float(gap.mean()) <= ROUNDING:
        return []
    padded = (~sampled.prompt_mask).any(-1)[:, None].expand_as(mask)[mask]
    if bool(padded.any()) and not bool(padded.all()) and float(gap[~padded].mean()) <= ROUNDING:
        return [Cause("padding", "recorded log-probs are right on rows without padding, wrong on those with it")]
    place = int((evidence.tempered - recorded[:, None]).abs().mean(0).argmin())
    temperature, at_temperature = evidence.finer_temperature(place, recorded)
    scorers = [(x.name, x.setting, x.logprobs) for x in samplers if x.name != "temperature"]
    scorers.append(("temperature", f"{temperature:.2f}", at_temperature))
    name, setting, logprobs = min(scorers, key=lambda scorer: float((recorded - scorer[2]).abs().mean()))
    if float((recorded - logprobs).abs().mean()) < 0.25 * float(gap.mean()):
        return [Cause(name, f"{setting}: the recorded log-probs are those of that sampler")]
    if _dropout_noise(policy, sampled, score) > ROUNDING and not _repeats_agree(sampled):
        return [Cause("dropout", "recorded log-probs of the same token after the same prompt differ")]
    return [Cause("stale policy", f"recorded log-probs are {float(gap.mean()):.2g} nats a token from the policy's own")]


def _dropout_noise(policy: Any, sampled: Sampled, score: Score) -> float:
    """Mean |Δ log-prob| that training mode makes on a few rows, nats; 0 without dropout."""
    if not isinstance(policy, torch.nn.Module):
        return 0.0
    few = sampled.rows(slice(0, 32))
    still = _chosen(policy, few, score)
    modes = [(module, module.training) for module in policy.modules()]
    with torch.random.fork_rng():
        policy.train()
        noisy = _chosen(policy, few, score)
    for module, mode in modes:
        module.training = mode
    return _apart(still, noisy, few.completion_mask, mean=True)


def _repeats_agree(sampled: Sampled) -> bool:
    """Whether first tokens that were sampled twice after one prompt have one recorded log-prob; weights give one."""
    assert sampled.logprobs is not None
    seen: dict[tuple[object, ...], list[float]] = {}
    for row in range(len(sampled)):
        prompt = sampled.prompt_ids[row][sampled.prompt_mask[row]].tolist()
        key = (*prompt, None, int(sampled.completion_ids[row, 0]))
        seen.setdefault(key, []).append(float(sampled.logprobs[row, 0]))
    return all(max(values) - min(values) <= ROUNDING for values in seen.values())


def overdue(expected: Tensor, observed: Tensor) -> Tensor:
    """Ids of tokens never sampled that the policy would have given by now, whatever the vocabulary; both (V,)."""
    return ((observed == 0) & (expected >= MIN_GAIN + math.log(len(expected)))).nonzero().flatten()


def overdue_tokens(policy: Any, sampled: Sampled, score: Score) -> list[int]:
    """`overdue` for some completions, at the cost of one forward pass over them."""
    expected, observed = torch.zeros(()), torch.zeros(())
    for logp, ids in distributions(policy, sampled, score):
        expected = expected + logp.exp().sum(0).cpu()
        observed = observed + ids.bincount(minlength=logp.shape[-1]).cpu()
    return [int(i) for i in overdue(expected, observed)]


def distributions(policy: Any, sampled: Sampled, score: Score) -> Iterator[tuple[Tensor, Tensor]]:
    """log π (n, V) at the real tokens of each piece, and their ids (n,), on the model's device."""
    for part in _parts(sampled, _vocabulary(policy, sampled, score)):
        logits = _logits(policy, part, score)
        mask, ids = part.completion_mask.to(logits.device), part.completion_ids.to(logits.device)
        yield logits[mask].log_softmax(-1), ids[mask]


def _tempered(logp: Tensor, chosen: Tensor, temperatures: Tensor) -> Tensor:
    """log π_τ of the chosen tokens at each temperature; logp (n, V), chosen (n,); returns (n, len(temperatures))."""
    columns = [(chosen / float(t)).double() - (logp / float(t)).logsumexp(-1).double() for t in temperatures]
    return torch.stack(columns, -1).cpu()


@torch.no_grad()
def _logits(model: Any, sampled: Sampled, score: Score) -> Tensor:
    return score(model, sampled.prompt_ids, sampled.prompt_mask, sampled.completion_ids)


def _chosen(model: Any, sampled: Sampled, score: Score) -> Tensor:
    """log π of the sampled tokens (B, T), on the CPU."""
    pieces = []
    for part in _parts(sampled, _vocabulary(model, sampled, score)):
        logp = _logits(model, part, score).log_softmax(-1)
        pieces.append(gathered(logp, part.completion_ids.to(logp.device)).cpu())
    return torch.cat(pieces)


def _apart(a: Tensor, b: Tensor, mask: Tensor, *, mean: bool = False) -> float:
    gap = (a.double() - b.double()).abs()[mask]
    return float(gap.mean() if mean else gap.max()) if len(gap) else 0.0


def _parts(sampled: Sampled, vocabulary: int) -> Iterator[Sampled]:
    rows = max(1, HELD_AT_ONCE // (sampled.completion_ids.shape[1] * vocabulary))
    return (sampled.rows(slice(part.start, part.stop)) for part in chunks(len(sampled), rows))


def _rows_to_read(policy: Any, sampled: Sampled, score: Score) -> int:
    numbers = sampled.completion_ids.shape[1] * _vocabulary(policy, sampled, score)
    return min(len(sampled), max(32, READ_AT_MOST // numbers))


def _vocabulary(model: Any, sampled: Sampled, score: Score) -> int:
    """The size of the vocabulary, from the logits of one token."""
    one = sampled.rows(slice(0, 1))
    logits: Tensor = score(model, one.prompt_ids, one.prompt_mask, one.completion_ids[:, :1])
    return int(logits.shape[-1])
