"""Which rows of a million say the same: keys as 16-byte digests, in arrays instead of sets of strings."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

Places = npt.NDArray[np.int64]
DIGEST = 16
"""Bytes of a digest: of 10^9 rows two different ones share one with probability 10^-21."""


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
        joined = texts[0] if len(texts) == 1 else "\x1f".join(texts)
        self._digests += hashlib.blake2b(joined.encode("utf-8", "surrogatepass"), digest_size=DIGEST).digest()

    def groups(self) -> list[Places]:
        """The places of rows that share a key with another row, ascending, a group a key, by the first place."""
        order, last = self._sorted()
        first = np.concatenate(([0], last[:-1] + 1)) if len(last) else last
        found = [order[first[i] : last[i] + 1] for i in np.flatnonzero(last > first)]
        return sorted(found, key=lambda places: int(places[0]))

    def numbers(self) -> tuple[Places, Places]:
        """(N,) the number of each row's key, keys numbered as they first came; and (K,) where each key first came."""
        order, last = self._sorted()
        sizes = np.diff(last, prepend=-1)
        first = order[last - sizes + 1]
        by_first = np.argsort(first)
        rank = np.empty_like(by_first)
        rank[by_first] = np.arange(len(by_first))
        numbers = np.empty(len(self), np.int64)
        numbers[order] = np.repeat(rank, sizes)
        return numbers, first[by_first]

    def _sorted(self) -> tuple[Places, Places]:
        """The places of the rows sorted by key, equal keys in the order of the file; the last of each run of them."""
        if not len(self):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        keys = np.frombuffer(self._digests, np.uint64).reshape(-1, 2)
        order: Places = np.lexsort((keys[:, 1], keys[:, 0]))
        return order, grouped(keys[order, 0], keys[order, 1])
