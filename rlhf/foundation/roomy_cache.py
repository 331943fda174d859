"""Keys and values with room for every token that will come, so that a token is written beside them and not appended to
a copy of them all: what transformers' own cache copies grows with the square of the length.

Shapes: B texts, H heads, S tokens so far, D numbers a head.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """One layer's keys and values (B, H, S, D), views of the first places of a larger room."""

    def __init__(self, layer: DynamicLayer, places: int) -> None:
        """Takes over what `layer` holds; `places` is how many tokens it will hold at most."""
        super().__init__()  # type: ignore[no-untyped-call]
        held: Any = (layer.keys, layer.values)
        self.lazy_initialization(*held)
        self.length = layer.get_seq_length()
        self.rooms = [_with_room(tensor, places) for tensor in held]
        self._look()

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write the next tokens' (B, H, n, D) and give all of them."""
        start, self.length = self.length, self.length + key_states.shape[-2]
        for room, tensor in zip(self.rooms, (key_states, value_states), strict=True):
            room[..., start : self.length, :] = tensor
        return self._look()

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows alone."""
        self.rooms = [room[indices] for room in self.rooms]
        self._look()

    def _look(self) -> tuple[Tensor, Tensor]:
        self.keys, self.values = (room[..., : self.length, :] for room in self.rooms)
        return self.keys, self.values


def _with_room(tensor: Tensor, places: int) -> Tensor:
    room = tensor.new_empty(*tensor.shape[:-2], max(places, tensor.shape[-2]), tensor.shape[-1])
    room[..., : tensor.shape[-2], :] = tensor
    return room


def make_room(cache: Any, places: int) -> None:
    """Give each layer of a cache that would grow by copying room for `places` tokens; leave any other as it is."""
    if type(cache) is not DynamicCache:
        return
    for number, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer and layer.get_seq_length():
            cache.layers[number] = RoomyLayer(layer, places)
