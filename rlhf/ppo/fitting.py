"""Which sampler made the samples: every known one fitted by likelihood, the likeliest tested for what it leaves.

Shapes: B completions, P prompt tokens, T completion tokens, V vocabulary, N real tokens. Log-probs and gains in nats.

Truncations are fitted at their edge: the tightest setting that keeps every sampled token. Temperature and repetition
penalty are fitted by Fisher scoring. Repetition penalty, temperature, top-k and top-p, which a model's own
`generation_config` often sets together, are also fitted together, and those that gain little are dropped again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from rlhf.ppo.evidence import POLICY, Evidence, of_chosen
from rlhf.ppo.goodness import MIN_GAIN
from rlhf.ppo.samplers import Sampler

# Nats that each further parameter must gain: 4 standard errors.
FURTHER_GAIN = 8.0
SMOOTH = ("repetition_penalty", "temperature")
TOGETHER = (*SMOOTH, "top_k", "top_p")
# Tokens of each prefix that those are first fitted to.
NARROW = 512


class Fit(NamedTuple):
    """A sampler fitted to the samples."""

    settings: dict[str, str]  # what is altered, and how
    logprobs: Tensor  # (N,) of the sampled tokens under it
    gain: float  # log-likelihood above the policy's own
    parameters: int
    read: Evidence
    sampler: Sampler

    @property
    def name(self) -> str:
        """What is altered, as causes are named."""
        return " + ".join(self.settings)

    @property
    def setting(self) -> str:
        """The fitted settings, in the order of the names."""
        return ", ".join(self.settings.values())

    @property
    def worth(self) -> float:
        """The gain beyond what so many parameters must bring."""
        return self.gain - FURTHER_GAIN * (self.parameters - 1)


@torch.no_grad()
def fitted(read: Evidence) -> list[Fit]:
    """The known samplers fitted to the samples, the most worth first; those that gain nothing are left out."""
    own, narrow = read.logprobs(POLICY), read.narrowed(NARROW)

    def fit(sampler: Sampler) -> Fit:
        logprobs, named = read.logprobs(sampler), sampler.named()
        return Fit(named, logprobs, float((logprobs - own).sum()), len(named), read, sampler)

    fits = [fit(sampler) for sampler in _lone_settings(read)]
    base = float(narrow.logprobs(POLICY).sum())
    found: list[tuple[tuple[str, ...], float, Sampler]] = [
        ((name,), *fit_settings(narrow, (name,), POLICY)) for name in TOGETHER
    ]
    alone = max([value - base for _, value, _ in found] + [fit.gain for fit in fits])
    found += _together(narrow, base + alone)
    fits += [fit(refit(read, active, sampler)) for active, _, sampler in found]
    return sorted((fit for fit in fits if fit.gain > 0), key=lambda fit: -fit.worth)


def _lone_settings(read: Evidence) -> Iterator[Sampler]:
    """Settings that are fitted alone."""
    ended = torch.isin(read.ids, torch.tensor(read.end_token_ids, device=read.ids.device))
    if (earliest := int(read.positions[ended].min()) if bool(ended.any()) else read.length) > 0:
        yield POLICY._replace(min_new_tokens=earliest)
    yield POLICY._replace(forced_end=read.length)
    for size in range(1, 6):
        if not any(bool(of_chosen(c.repeating(size, x.shape[-1]), ids).any()) for x, ids, c in read.pieces()):
            yield POLICY._replace(no_repeat_ngram_size=size)
    for setting in ("min_p", "typical_p"):
        yield read.at_edge(POLICY, setting)
    if absent := read.traits(POLICY).absent():
        yield POLICY._replace(suppressed=tuple(absent))


Found = tuple[float, Sampler]  # log-likelihood, and the sampler that has it


def _together(read: Evidence, alone: float) -> list[tuple[tuple[str, ...], float, Sampler]]:
    """Those of `TOGETHER` that gain `FURTHER_GAIN` each, if all of them come to more than the best single, `alone`."""
    active: tuple[str, ...] = TOGETHER
    best, sampler = fit_settings(read, active, POLICY)
    if best - alone < FURTHER_GAIN:
        return []
    while len(active) > 2:
        fewer = [tuple(s for s in active if s != dropped) for dropped in active]
        value, simpler, left = max((*fit_settings(read, names, sampler), names) for names in fewer)
        if best - value >= FURTHER_GAIN:
            break
        best, sampler, active = value, simpler, left
    return [(active, best, sampler)]


def fit_settings(read: Evidence, active: tuple[str, ...], start: Sampler) -> Found:
    """Maximum likelihood of some of `TOGETHER`, the others left at their defaults."""
    for name in set(TOGETHER) - set(active):
        start = start.at(name, getattr(POLICY, name))
    if start.top_k == 0 and {"top_k", "top_p"} <= set(active):
        start = _likely_k(read.head(1024), active, start)
    return _climbed(read, active, _scored(read, active, start), (1.15, 1.04, 1.01))


def _likely_k(read: Evidence, active: tuple[str, ...], start: Sampler) -> Sampler:
    """A start whose k is about right: beside top-p the likelihood has a peak at the true k and lower ones elsewhere."""
    tightest = read.at_edge(start, "top_k").top_k
    starts = [start.at("top_k", tightest * 1.2**i) for i in range(10)]
    return max((_scored(read, active, wider, steps=5) for wider in starts), key=lambda found: found[0])[1]


def refit(read: Evidence, active: tuple[str, ...], start: Sampler) -> Sampler:
    """The same from a start nearby."""
    return _climbed(read, active, _scored(read, active, start), (1.01,))[1]


def _scored(read: Evidence, active: tuple[str, ...], start: Sampler, steps: int = 10) -> Found:
    """Fisher scoring of the smooth settings, the truncations moved to their edges before each step."""
    smooth = [name for name in SMOOTH if name in active]
    sampler, best = start, (-float("inf"), POLICY)
    for _ in range(steps):
        sampler = _at_edges(read, sampler, active)
        value, slope, information = _scores(read, sampler)
        moved = _step(sampler, smooth, slope, information)
        best = max(best, (value, sampler), key=lambda pair: pair[0])
        change = max((abs(getattr(moved, name) - getattr(sampler, name)) for name in smooth), default=0.0)
        sampler = moved
        if change < 1e-3:
            break
    return best


def _climbed(read: Evidence, active: tuple[str, ...], found: Found, factors: tuple[float, ...]) -> Found:
    """Smaller and smaller steps to both sides: scoring does not see that the edges move with the other settings."""
    if not set(active) & {"top_k", "top_p"}:
        return found
    free = [name for name in active if name in SMOOTH or (name == "top_k" and "top_p" in active)]
    for factor in factors:
        improved = True
        while improved:
            improved = False
            for moved in [_moved(found[1], name, by) for name in free for by in (factor, 1 / factor)]:
                tried = _at_edges(read, moved, active)
                value = float(read.logprobs(tried).sum())
                if value > found[0] + 0.01:
                    found, improved = (value, tried), True
    return found


def _moved(sampler: Sampler, name: str, by: float) -> Sampler:
    value = getattr(sampler, name)
    if name == "top_k":
        return sampler.at(name, max(value * by, value + 1) if by > 1 else min(value * by, value - 1))
    return sampler.at(name, value * by)


def _at_edges(read: Evidence, sampler: Sampler, active: tuple[str, ...]) -> Sampler:
    """Truncations that just keep every sampled token; with top-p, which counts what top-k left, k may be larger."""
    if "top_k" in active:
        tightest = read.at_edge(sampler._replace(top_k=0, top_p=1.0), "top_k")
        wider = max(tightest.top_k, sampler.top_k) if "top_p" in active else tightest.top_k
        sampler = tightest._replace(top_k=wider)
    if "top_p" in active:
        sampler = read.at_edge(sampler._replace(top_p=1.0), "top_p")
    return sampler


def _scores(read: Evidence, sampler: Sampler) -> tuple[float, Tensor, Tensor]:
    """Log-likelihood, its slope (2,) in (repetition penalty θ, 1/τ), and the Fisher information (2, 2).

    log q = β x_θ - log Σ exp(β x_θ) over the tokens kept, β = 1/τ: the slope is Σ f(chosen) - E f with
    f = (β dx/dθ, x), the information Σ Cov f, both under q.
    """
    value, slope = 0.0, torch.zeros(2, dtype=torch.float64)
    information = torch.zeros(2, 2, dtype=torch.float64)
    theta = sampler.repetition_penalty
    for logits, ids, context in read.pieces():
        logq = sampler.logprobs(logits, context)
        x = sampler.penalised(logits, context)
        rate = torch.where(x < 0, x / theta, -x / theta).mul_(context.seen(x.shape[-1])) / sampler.temperature
        q, features = logq.exp(), (rate, x - x.amax(-1, keepdim=True))
        means = [(q * f).sum(-1) for f in features]
        centred = [f - mean[:, None] for f, mean in zip(features, means, strict=True)]
        value += float(of_chosen(logq, ids).double().sum())
        slope += torch.stack([of_chosen(f, ids).double().sum().cpu() for f in centred])
        for i, j in ((0, 0), (0, 1), (1, 1)):
            information[i, j] += float((q * centred[i] * centred[j]).double().sum())
    information[1, 0] = information[0, 1]
    return value, slope, information


def _step(sampler: Sampler, smooth: list[str], slope: Tensor, information: Tensor) -> Sampler:
    """One step of Fisher scoring, θ by at most 0.3 and 1/τ by at most a factor of 1.6."""
    picked = [SMOOTH.index(name) for name in smooth]
    if not picked:
        return sampler
    ridge = 1e-6 * torch.eye(len(picked), dtype=torch.float64)
    step = dict(zip(picked, torch.linalg.solve(information[picked][:, picked] + ridge, slope[picked]), strict=True))
    theta = sampler.repetition_penalty + min(0.3, max(-0.3, float(step.get(0, 0.0))))
    beta = 1 / sampler.temperature
    beta = min(1.6 * beta, max(beta / 1.6, beta + float(step.get(1, 0.0))))
    return sampler._replace(repetition_penalty=min(5.0, max(0.2, theta)), temperature=min(10.0, max(0.1, 1 / beta)))


def worth_naming(fits: list[Fit]) -> Fit | None:
    """The sampler most worth, if the samples are likelier so by at least `MIN_GAIN`."""
    best = max(fits, key=lambda fit: fit.worth, default=None)
    return best if best is not None and best.worth >= MIN_GAIN else None
