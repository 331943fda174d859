"""How far two rewards are apart, before either trains a policy.

EPIC (Gleave et al. 2021, "Quantifying Differences in Reward Functions", definitions 4.1 to 4.5), adapted to language
models: an episode is one completion, so the canonical form subtracts the mean reward of the prompt's completions
under a coverage distribution D, and what only shifts or rescales a reward, for each prompt, makes no difference:

    C(r)(x, y) = r(x, y) - E_{y' ~ D(·|x)} r(x, y'),    d(r, s) = √((1 - ρ(C(r), C(s))) / 2)

ρ is Pearson's correlation over D. d is 0 for rewards that order and space completions alike, 1/√2 = 0.707 for
unrelated ones, 1 for opposite ones.

Shapes: N completions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlhf.foundation.errors import InputError

Array = NDArray[np.float64]
_DRAWS = 1000


class Distance(NamedTuple):
    """d with a 95 % bootstrap interval; `n` completions of `n_prompts` prompts; `dropped` had a prompt of their own."""

    distance: float
    low: float
    high: float
    correlation: float
    n: int
    n_prompts: int
    dropped: int


def centred(rewards: Array, groups: NDArray[np.int64]) -> Array:
    """C(r): each reward minus its prompt's mean. `groups` (N,) numbers the prompts 0, 1, ..., each present."""
    means = np.bincount(groups, weights=rewards) / np.bincount(groups)
    return rewards - means[groups]


def pearson_distance(x: Array, y: Array) -> tuple[float, float]:
    """(√((1 - ρ)/2), ρ) of two centred lists. Computed from the unit vectors' difference, exact near 0."""
    u, v = x / np.linalg.norm(x), y / np.linalg.norm(y)
    # |u - v|² = 2 - 2ρ, so d = |u - v| / 2: no cancellation where ρ is almost 1.
    distance = float(np.linalg.norm(u - v) / 2)
    return min(distance, 1.0), 1 - 2 * distance**2


def reward_distance(
    first: Sequence[float | None], second: Sequence[float | None], prompts: Sequence[str], *, seed: int = 0
) -> Distance:
    """The distance of two rewards on the same completions; the interval is from 1,000 bootstrap draws.

    Whole prompts are drawn where there are at least 20, else completions. Completions that either reward could not
    score, and those without another one of the same prompt, are dropped and counted. Raises InputError when a reward
    is constant within every prompt: such a reward has no direction to compare.
    """
    scored = [i for i, (a, b) in enumerate(zip(first, second, strict=True)) if a is not None and b is not None]
    sizes: dict[str, int] = {}
    for i in scored:
        sizes[prompts[i]] = sizes.get(prompts[i], 0) + 1
    kept = [i for i in scored if sizes[prompts[i]] >= 2]
    numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompts[i] for i in kept))}
    groups = np.array([numbers[prompts[i]] for i in kept], dtype=np.int64)
    x, y = (
        _direction([values[i] for i in kept], groups, name) for values, name in ((first, "first"), (second, "second"))
    )
    distance, rho = pearson_distance(x, y)
    rng = np.random.default_rng(seed)
    drawn = [_draw(x, y, groups, rng) for _ in range(_DRAWS)]
    low, high = np.percentile([d for d in drawn if d is not None], [2.5, 97.5])
    return Distance(distance, float(low), float(high), rho, len(kept), len(numbers), len(first) - len(kept))


def _direction(values: Sequence[float | None], groups: NDArray[np.int64], name: str) -> Array:
    rewards = np.array(values, dtype=np.float64)
    found = centred(rewards, groups) if len(rewards) else rewards
    if not len(found) or np.linalg.norm(found) <= 1e-9 * max(1.0, float(np.abs(rewards).max())) * math.sqrt(len(found)):
        raise InputError(
            f"the {name} reward",
            got="the same value for all completions of each prompt"
            if len(found)
            else "no two scored completions of one prompt",
            expected="rewards that differ between completions of a prompt",
            fix="compare another reward, or give samples with several completions a prompt",
        )
    return found


def _draw(x: Array, y: Array, groups: NDArray[np.int64], rng: np.random.Generator) -> float | None:
    """One bootstrap distance; prompts (where many) or completions are drawn with replacement, then centred anew."""
    n_prompts = int(groups.max()) + 1
    if n_prompts >= 20:
        counts = np.bincount(rng.integers(n_prompts, size=n_prompts), minlength=n_prompts)
        rows = np.repeat(np.arange(len(x)), counts[groups])
        a, b = x[rows], y[rows]  # centred within their prompts already
    else:
        rows = rng.integers(len(x), size=len(x))
        _, renumbered = np.unique(groups[rows], return_inverse=True)
        a, b = centred(x[rows], renumbered), centred(y[rows], renumbered)
    if np.linalg.norm(a) == 0 or np.linalg.norm(b) == 0:
        return None
    return pearson_distance(a, b)[0]
