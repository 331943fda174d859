"""Which rows of a million say the same: keys as 16-byte digests, in arrays instead of sets of strings."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

Places = npt.NDArray[np.int64]
DIGEST = 16
"""Bytes of a digest: of 10^9 rows two different ones share one with probability 10^-21."""


def digest(text: str) -> bytes:
    """128 bits of BLAKE2b of a text, lone surrogates included."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=DIGEST).digest()


def grouped(*columns: npt.NDArray[np.generic]) -> Places:
    """The last place of each run of rows that are equal in every column (N,) each, N at least 1."""
    ends = np.zeros(len(columns[0]), bool)
    ends[-1] = True
    for column in columns:
        ends[:-1] |= column[1:] != column[:-1]
    return np.flatnonzero(ends)


class Keys:
    """Keys of rows in the order of a file."""

    def __init__(self) -> None:
        self._digests = bytearray()

    def __len__(self) -> int:
        return len(self._digests) // DIGEST

    def add(self, *texts: str) -> None:
        """The next row's key."""
        self._digests += digest("\x1f".join(texts))

    def groups(self) -> list[Places]:
        """The places of rows that share a key with another row, ascending, a group a key, by the first place."""
        if len(self) < 2:
            return []
        keys = np.frombuffer(self._digests, np.uint64).reshape(-1, 2)
        order = np.lexsort((keys[:, 1], keys[:, 0]))  # stable: equal keys stay in the order of the file
        last = grouped(keys[order, 0], keys[order, 1])
        first = np.concatenate(([0], last[:-1] + 1))
        several = np.flatnonzero(last > first)
        found = [order[first[i] : last[i] + 1] for i in several]
        return sorted(found, key=lambda places: int(places[0]))
