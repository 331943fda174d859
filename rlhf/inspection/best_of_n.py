"""Best-of-n: the rival that needs no training. Draw n samples of the original model, keep the highest proxy.

Expected proxy and gold of the winner are estimated without bias from one pool of N samples; the KL of best-of-n
against the original is log n - (n-1)/n.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import gammaln

from rlhf.inspection.estimates import Floats

FIRM = 10  # effective samples


@dataclass(frozen=True, slots=True)
class BestOfN:
    """Best of n draws: KL in nats (an upper bound when rewards tie), the winner's mean rewards with errors.

    `effective_samples` is 1/Σw², the number of pool samples the estimate really rests on; errors are not to be
    trusted below about 10.
    """

    n: int
    kl: float
    effective_samples: float
    proxy: float
    proxy_se: float
    gold: dict[str, float]
    gold_se: dict[str, float]

    @property
    def firm(self) -> bool:
        """Whether enough samples stand behind the estimate for its error to be trusted."""
        return self.effective_samples >= FIRM

    def reward(self, name: str) -> tuple[float, float]:
        """Mean and standard error of the winner's proxy ("proxy") or of another reward."""
        return (self.proxy, self.proxy_se) if name == "proxy" else (self.gold[name], self.gold_se[name])


def best_of_n_kl(n: int) -> float:
    """KL(best-of-n || original) = log n - (n-1)/n nats (Stiennon et al. 2020, appendix G.3).

    Exact when no two samples tie in the reward, as with a continuous one; an upper bound when they do (Beirami et
    al. 2024, "Theoretical guarantees on the best-of-n alignment policy").
    """
    return math.log(n) - (n - 1) / n


@lru_cache(maxsize=64)
def rank_weights(size: int, n: int) -> Floats:
    """Probability that the sample of rank i (ascending, 1..N) wins among n drawn without return: C(i-1,n-1)/C(N,n)."""
    rank = np.arange(1, size + 1, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        log_ways = gammaln(rank) - gammaln(n) - gammaln(rank - n + 1)
    log_all = gammaln(size + 1) - gammaln(n + 1) - gammaln(size - n + 1)
    return np.where(rank >= n, np.exp(np.where(rank >= n, log_ways, 0.0) - log_all), 0.0)


def winner_weights(proxy: Floats, n: int) -> Floats:
    """(N,) probability of each pool sample to be the best of n; ties in the proxy share their weight equally."""
    order = np.argsort(proxy, kind="stable")
    by_rank = rank_weights(proxy.size, n)  # shared: not to be written to
    _, group, count = np.unique(proxy[order], return_inverse=True, return_counts=True)
    shared = np.bincount(group, weights=by_rank) / count
    weights = np.empty_like(by_rank)
    weights[order] = shared[group]
    return weights


def best_of_n(proxy: Floats, gold: dict[str, Floats], n: int, draws: int = 200, seed: int = 0) -> BestOfN:
    """Unbiased estimates for one n ≤ N from a pool of N samples, standard errors by bootstrap of the pool.

    `proxy` and every array of `gold` are (N,) and without NaN.
    """
    if not 1 <= n <= proxy.size:
        raise ValueError(f"n = {n} is outside 1..{proxy.size}, the size of the pool")
    columns = np.stack([proxy, *gold.values()])  # (1 + golds, N)
    weights = winner_weights(proxy, n)
    generator = np.random.default_rng(seed)
    resampled = np.empty((draws, len(columns)))
    for draw in range(draws):
        index = generator.integers(proxy.size, size=proxy.size)
        resampled[draw] = columns[:, index] @ winner_weights(proxy[index], n)
    means, errors = columns @ weights, resampled.std(axis=0, ddof=1)
    return BestOfN(
        n=n,
        kl=best_of_n_kl(n),
        effective_samples=float(1 / np.sum(weights**2)),
        proxy=float(means[0]),
        proxy_se=float(errors[0]),
        gold={name: float(means[i]) for i, name in enumerate(gold, start=1)},
        gold_se={name: float(errors[i]) for i, name in enumerate(gold, start=1)},
    )


def share_of_ties(proxy: Floats) -> float:
    """Share of the pool whose proxy another sample has too; above 0 the KL of best-of-n is an upper bound."""
    _, count = np.unique(proxy[np.isfinite(proxy)], return_counts=True)
    return float(count[count > 1].sum() / count.sum()) if count.size else 0.0


def best_of_n_curve(proxy: Floats, gold: dict[str, Floats], draws: int = 200, seed: int = 0) -> list[BestOfN]:
    """The estimates for n = 1, 2, 4, ... up to what the pool supports (n ≤ N), never beyond it.

    Samples with a missing score are left out of the pool.
    """
    columns = np.stack([proxy, *gold.values()])
    there = np.isfinite(columns).all(axis=0)
    pool, golds = proxy[there], {name: values[there] for name, values in gold.items()}
    powers = range(int(math.log2(pool.size)) + 1) if pool.size else range(0)
    return [best_of_n(pool, golds, 2**power, draws, seed) for power in powers]
