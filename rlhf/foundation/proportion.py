"""A share with its Wilson interval: what every rate in the toolkit is told as."""

from __future__ import annotations

import math
from typing import NamedTuple


class Proportion(NamedTuple):
    """A share with n and its Wilson 95 % interval."""

    share: float
    n: int
    low: float
    high: float


def wilson(successes: float, n: int, z: float = 1.96) -> Proportion:
    """Share with Wilson's score interval: centre (p + z²/2n)/(1 + z²/n), half width z √(p(1-p)/n + z²/4n²)/(1 + z²/n).

    Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference". With n = 0 the share is NaN
    and the interval is all of 0 to 1.
    """
    if n == 0:
        return Proportion(math.nan, 0, 0.0, 1.0)
    p = successes / n
    denominator = 1 + z * z / n
    centre = (p + z * z / (2 * n)) / denominator
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / denominator
    return Proportion(p, n, max(0.0, centre - half), min(1.0, centre + half))
