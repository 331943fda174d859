"""A list for which memory holds a number a row: the rows are made when they are asked for."""

from __future__ import annotations

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


def chained(first: Sequence[Row], then: Sequence[Row]) -> Lazy[Row]:
    """The rows of one sequence and then those of another."""
    return Lazy(
        lambda place: first[place] if place < len(first) else then[place - len(first)], range(len(first) + len(then))
    )
