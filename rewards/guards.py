"""Three questions before PPO: does the reward point the right way, does it differ between samples, does it know them?

A guard that fails says so in reward_model.json and in the terminal; only a wrong sign stops (`rlhf reward` refuses).
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewards.held_out import HeldOut
from rewards.trust import ranking, words_of
from rlhf.foundation.proportion import Proportion

Array = NDArray[np.float64]
SMALLEST_SPREAD = 0.05
"""Nats: below this standard deviation of log P on base samples the reward hardly tells them apart."""
LARGEST_TIE = 0.9
_SPLITS = 20
FARTHEST = 2.0
"""How many times farther from the labelled texts than they are from each other the samples may lie."""


@dataclass(frozen=True, slots=True)
class Guard:
    """One guard's finding: what was measured, whether it passed, and one sentence for people."""

    name: str
    passed: bool
    value: float
    says: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def sign_guard(held_out: HeldOut) -> Guard:
    """Held-out texts that raters call good score above those they call bad: the ranking's interval is above 1/2."""
    found: Proportion = ranking(held_out.log_odds[held_out.said > 0.5], held_out.log_odds[held_out.said < 0.5])
    passed = found.low > 0.5
    return Guard(
        "sign",
        passed,
        found.share,
        f"a held-out text called good scores above one called bad in {found.share:.0%} of pairs "
        f"(95 % interval {found.low:.0%} to {found.high:.0%})" + ("" if passed else ": no better than a coin"),
    )


def scale_guard(rewards: Array) -> Guard:
    """Base samples get different rewards: a spread of at least 0.05 nats, and not nearly all of them one value."""
    spread = float(rewards.std(ddof=1))
    tied = Counter(np.round(rewards, 3).tolist()).most_common(1)[0][1] / len(rewards)
    passed = spread >= SMALLEST_SPREAD and tied < LARGEST_TIE
    says = f"standard deviation {spread:.3g} nats on {len(rewards)} base samples; {tied:.0%} share one value (± 0.0005)"
    return Guard("scale", passed, spread, says + ("" if passed else ": there is little to optimise"))


def distribution_guard(labelled: Sequence[str], samples: Sequence[str], *, seed: int = 0) -> Guard:
    """Samples use the words that were labelled: their distance is at most twice that among labelled texts.

    The distance is Jensen and Shannon's between word frequencies, in nats, of one half of the labelled texts and as
    many samples; it is divided by the same between the two halves of the labelled texts, which is chance alone.
    """
    rng = random.Random(f"halves {seed}")
    distances, chances = [], []
    for _ in range(_SPLITS):
        shuffled = rng.sample(list(labelled), len(labelled))
        size = min(len(labelled) // 2, len(samples))
        first, second = frequencies(shuffled[:size]), frequencies(shuffled[size : 2 * size])
        distances.append(jensen_shannon(first, frequencies(rng.sample(list(samples), size))))
        chances.append(jensen_shannon(first, second))
    distance, chance = sum(distances) / _SPLITS, sum(chances) / _SPLITS
    ratio = distance / chance if chance > 0 else math.inf if distance > 0 else 1.0
    known = {word for text in labelled for word in words_of(text)}
    words = [word for text in samples for word in words_of(text)]
    unknown = sum(word not in known for word in words) / max(1, len(words))
    passed = ratio <= FARTHEST
    return Guard(
        "distribution",
        passed,
        ratio if math.isfinite(ratio) else float(len(words)),
        f"the samples' words lie {ratio:.1f} times as far from the labelled texts as those from each other; "
        f"{unknown:.1%} of their words were never labelled" + ("" if passed else ": label some of these samples"),
    )


def frequencies(texts: Sequence[str]) -> dict[str, float]:
    """Share of each word among all words of the texts."""
    counts = Counter(word for text in texts for word in words_of(text))
    total = sum(counts.values())
    return {word: count / total for word, count in counts.items()}


def jensen_shannon(p: dict[str, float], q: dict[str, float]) -> float:
    """JS(p, q) = ½ Σ p log(p/m) + ½ Σ q log(q/m), m = (p + q)/2, in nats; 0 to log 2 (Lin 1991, eq. 4.1)."""
    total = 0.0
    for word in dict.fromkeys([*p, *q]):  # not a set: its order, and so the last bits, differ between processes
        a, b = p.get(word, 0.0), q.get(word, 0.0)
        middle = (a + b) / 2
        total += 0.5 * (a * math.log(a / middle) if a else 0.0) + 0.5 * (b * math.log(b / middle) if b else 0.0)
    return total
