"""A list for which memory holds a number a row: the rows are made when they are asked for."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar, overload

Row = TypeVar("Row", covariant=True)


class Lazy(Sequence[Row]):
    """The rows `make(place)` for each of `places`, made anew at every look; equal to a list of the same rows."""

    def __init__(self, make: Callable[[int], Row], places: Sequence[int]) -> None:
        self.make, self.places = make, places

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Lazy[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | Lazy[Row]:
        if isinstance(index, slice):
            return Lazy(self.make, self.places[index])
        return self.make(int(self.places[index]))

    def __iter__(self) -> Iterator[Row]:
        return (self.make(int(place)) for place in self.places)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (list, Lazy)) or len(self) != len(other):
            return NotImplemented if not isinstance(other, (list, Lazy)) else False
        return all(one == two for one, two in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]


class Chained(Sequence[Row]):
    """The rows of several sequences, one sequence after another."""

    def __init__(self, *parts: Sequence[Row]) -> None:
        self.parts = parts
        self.ends = list(itertools.accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Lazy[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | Lazy[Row]:
        place = range(len(self))[index]
        if isinstance(place, range):
            return Lazy(self.__getitem__, place)
        part = bisect.bisect(self.ends, place)
        return self.parts[part][place - (self.ends[part - 1] if part else 0)]

    def __iter__(self) -> Iterator[Row]:
        return itertools.chain.from_iterable(self.parts)
