"""Encoded texts as right-padded batches.

Shapes: B texts of a batch, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Right-padded ids. `rows` says which texts of the given list they are."""

    rows: list[int]
    input_ids: Tensor  # (B, T)
    mask: Tensor  # (B, T) bool, True on real tokens
    last: Tensor  # (B,) index of the last real token


def batches(
    encoded: Sequence[Sequence[int]], *, max_tokens: int, pad_id: int, device: torch.device | str = "cpu"
) -> Iterator[Batch]:
    """All texts, shortest first, in batches of at most `max_tokens` padded tokens (a longer text goes alone)."""
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    rows: list[int] = []
    for i in order:
        if rows and (len(rows) + 1) * len(encoded[i]) > max_tokens:
            yield pad(encoded, rows, pad_id, device)
            rows = []
        rows.append(i)
    if rows:
        yield pad(encoded, rows, pad_id, device)


def pad(encoded: Sequence[Sequence[int]], rows: list[int], pad_id: int, device: torch.device | str = "cpu") -> Batch:
    """The texts `rows` as one right-padded batch."""
    lengths = torch.tensor([len(encoded[i]) for i in rows])
    width = int(lengths.max())
    ids = torch.tensor([[*encoded[i], *[pad_id] * (width - len(encoded[i]))] for i in rows])
    mask = torch.arange(width)[None] < lengths[:, None]
    return Batch(rows, ids.to(device), mask.to(device), (lengths - 1).to(device))
