"""What the processes of a run do together, as sampling and measuring see it; and a process by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from torch import Tensor

Value = TypeVar("Value")


class Together(Protocol):
    """What the processes of a run do together, of which a rollout needs this (distributed.Processes has it)."""

    @property
    def rank(self) -> int: ...
    @property
    def world_size(self) -> int: ...
    def sum(self, tensor: Tensor) -> Tensor: ...
    def naming(self, function: Callable[..., Any]) -> Callable[..., Any]: ...
    def begin(self, phase: str, *, alone: bool = False, share: tuple[int, int] | None = None) -> None: ...
    @property
    def sharded(self) -> bool: ...
    def any(self, here: bool) -> bool: ...
    def all_do(self, action: Callable[[], Value], phase: str = "") -> Value: ...


class Alone:
    """A process by itself."""

    rank, world_size, sharded = 0, 1, False

    def any(self, here: bool) -> bool:
        """What there is."""
        return here

    def sum(self, tensor: Tensor) -> Tensor:
        """What there is."""
        return tensor

    def all_do(self, action: Callable[[], Value], phase: str = "") -> Value:
        """It is done."""
        return action()

    def naming(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """There is no other rank to be told apart from."""
        return function

    def begin(self, phase: str, *, alone: bool = False, share: tuple[int, int] | None = None) -> None:
        """Nobody waits."""
