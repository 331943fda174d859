"""The most reward that any policy can have at a given KL: the Gibbs policies', from the original's own samples.

π_β(y|x) = π₀(y|x) exp(r(y)/β) / Z_β(x) has the highest expected reward of all policies at its KL to π₀ (Korbak et al.
2022, section 4; Rafailov et al. 2023, eq. 4). With λ = 1/β and samples of π₀, self-normalised weights
w_i = exp(λ r_i)/Σ_j exp(λ r_j) give

    R = Σ w_i r_i,    KL = λ R - log(1/N Σ exp(λ r_i)),    dR/dKL = β,

of each prompt, and the mean over prompts (one β for all). Errors are by the delta method at a fixed KL; where few
samples carry the weights (1/Σw² below 10 for a prompt) the frontier ends: beyond it the plug-in is biased low.

Shapes: N samples of the original, M prompts, F rewards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlhf.inspection.best_of_n import FIRM
from rlhf.inspection.estimates import Floats

STEP = 0.25  # of √KL, as the rungs of a ladder
TOLD = (1.0, 2.0, 4.0)  # nats, at which a run's share is told
BISECTIONS = 60
MOST_ROOT = 8.0  # √KL, beyond what any number of samples carries


@dataclass(frozen=True, slots=True)
class GibbsPoint:
    """The Gibbs policy at `kl` nats: mean rewards with standard errors at this KL; `gain` is the proxy's over the
    original, with its own error. `effective_samples` is 1/Σw² of the prompt that has fewest."""

    kl: float
    beta: float
    effective_samples: float
    proxy: float
    proxy_se: float
    gain: float
    gain_se: float
    gold: dict[str, float]
    gold_se: dict[str, float]

    def reward(self, name: str) -> tuple[float, float]:
        """Mean and standard error of the proxy ("proxy") or of another reward."""
        return (self.proxy, self.proxy_se) if name == "proxy" else (self.gold[name], self.gold_se[name])


class Tilted(NamedTuple):
    """Samples of one prompt under weights exp(λ r): the weights (N,), KL in nats, mean reward."""

    weights: Floats
    kl: float
    mean: float


def tilted(rewards: Floats, inverse: float) -> Tilted:
    """One prompt's samples at λ = `inverse`; exact where the samples are all texts, each as often as it is likely."""
    logits = inverse * (rewards - rewards.max())
    unnormalised = np.exp(logits)
    weights: Floats = unnormalised / unnormalised.sum()
    mean = float(weights @ rewards)
    kl = inverse * (mean - float(rewards.max())) - math.log(float(unnormalised.mean()))
    return Tilted(weights, max(kl, 0.0), mean)


def gibbs_frontier(
    proxy: Floats, gold: Mapping[str, Floats], prompts: Sequence[str] | None = None, *, kls: Sequence[float] = ()
) -> list[GibbsPoint]:
    """The frontier at equal steps of √KL (and at `TOLD`, or at `kls` alone), as far as the samples carry it.

    `proxy` and every array of `gold` are (N,); samples with a missing score are left out, `prompts` (N,) tell whose
    they are. Empty where the proxy never varies or a prompt has too few samples.
    """
    there = np.isfinite(np.stack([proxy, *gold.values()])).all(axis=0)
    names = np.array(prompts if prompts is not None else [""] * proxy.size)
    groups = [np.flatnonzero(there & (names == name)) for name in dict.fromkeys(names[there].tolist())]
    if not groups or min(map(len, groups)) < FIRM or not any(np.ptp(proxy[own]) > 0 for own in groups):
        return []
    wanted = sorted({*kls} if kls else {*TOLD, *(np.arange(1, int(MOST_ROOT / STEP) + 1) * STEP) ** 2})
    found = []
    for kl in wanted:
        point = _at(float(kl), proxy, gold, groups)
        if point is None or point.effective_samples < FIRM:
            break
        found.append(point)
    return found


def _at(kl: float, proxy: Floats, gold: Mapping[str, Floats], groups: Sequence[NDArray[np.intp]]) -> GibbsPoint | None:
    """The point at one KL; None where no weights of these samples have it."""
    inverse = _inverse_at(kl, [proxy[own] for own in groups])
    if inverse is None:
        return None
    parts = [tilted(proxy[own], inverse) for own in groups]
    spread = sum(float(p.weights @ (proxy[own] - p.mean) ** 2) for p, own in zip(parts, groups, strict=True))
    beta, sizes = 1 / inverse, [len(own) for own in groups]
    over = [len(own) * p.weights - 1 for p, own in zip(parts, groups, strict=True)]  # N w - 1, mean 0
    base = [proxy[own] - proxy[own].mean() for own in groups]
    means, errors = {}, {}
    for name, values in gold.items():
        here = [values[own] for own in groups]
        of = [float(p.weights @ x) for p, x in zip(parts, here, strict=True)]
        shared = sum(
            float(p.weights @ ((x - m) * (proxy[own] - p.mean)))
            for p, x, m, own in zip(parts, here, of, groups, strict=True)
        )
        slope = shared / (inverse * spread)  # d gold / d KL
        influence = [
            (o + 1) * (x - m) - slope * (inverse * (o + 1) * (proxy[own] - p.mean) - o)
            for o, x, m, own, p in zip(over, here, of, groups, parts, strict=True)
        ]
        means[name], errors[name] = float(np.mean(of)), _error(influence, sizes)
    mean = float(np.mean([p.mean for p in parts]))
    return GibbsPoint(
        kl=kl,
        beta=beta,
        effective_samples=min(float(1 / np.sum(p.weights**2)) for p in parts),
        proxy=mean,
        proxy_se=_error([beta * o for o in over], sizes),
        gain=mean - float(np.mean([proxy[own].mean() for own in groups])),
        gain_se=_error([beta * o - b for o, b in zip(over, base, strict=True)], sizes),
        gold=means,
        gold_se=errors,
    )


def _error(influence: Sequence[Floats], sizes: Sequence[int]) -> float:
    """Standard error of a mean over prompts from each sample's influence on its prompt's figure."""
    variances = [float(values.var(ddof=1)) / size for values, size in zip(influence, sizes, strict=True)]
    return math.sqrt(sum(variances)) / len(sizes)


def _inverse_at(kl: float, groups: Sequence[Floats]) -> float | None:
    """λ at which the mean KL over prompts is `kl`; None where none reaches it. KL rises with λ."""

    def mean_kl(inverse: float) -> float:
        return float(np.mean([tilted(rewards, inverse).kl for rewards in groups]))

    scale = max(float(rewards.std()) for rewards in groups)
    low, high = 0.0, 1 / scale
    while mean_kl(high) < kl:
        low, high = high, 2 * high
        if high * scale > 2**20:
            return None
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if mean_kl(middle) < kl else (low, middle)
    return (low + high) / 2
