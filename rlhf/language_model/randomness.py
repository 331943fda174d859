"""Random numbers keyed by what they are for, never by rank, batch or call order.

One uniform number a token, from the counter-based generator Philox-4x64-10 (Salmon et al. 2011, "Parallel random
numbers: as easy as 1, 2, 3"): key = (seed, stream), counter = (block, 0, completion index, iteration). Layout, chunk
size and padding cannot change a draw, and resuming needs no generator state.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Stream(IntEnum):
    """What a random number is for; two streams of one seed are independent."""

    SAMPLE = 1
    ROLLOUT = 2
    EVALUATION = 3
    NORMALIZATION = 4
    SHUFFLE = 5
    PROMPTS = 6


def generator(seed: int, stream: Stream, iteration: int = 0, index: int = 0) -> np.random.Generator:
    """The generator of one (seed, stream, iteration, index); all four are non-negative and below 2^64."""
    key = np.array([seed, stream], dtype=np.uint64)
    counter = np.array([0, 0, index, iteration], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def uniforms(
    seed: int, stream: Stream, indices: Iterable[int], length: int, *, iteration: int = 0
) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), shape (len(indices), length): row i belongs to completion indices[i]."""
    return np.stack([generator(seed, stream, iteration, index).random(length) for index in indices])
