"""Notes that the processes of a run leave for each other in the launcher's store, beside the collectives.

A note is JSON under a name, one a rank. The store is the one that `accelerate launch` opened for torch.distributed,
in the launcher's process or in rank 0's; each board has a connection of its own, since a call that waits holds it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from torch.distributed import TCPStore  # type: ignore[attr-defined]

PATIENCE = timedelta(seconds=10)  # for one answer of the store


class Board:
    """One connection to the store of this launch. Its methods raise torch.distributed.DistError when that is gone."""

    def __init__(self, store: Any, rank: int, world_size: int) -> None:
        self._store, self.rank, self.world_size = store, rank, world_size
        self._begins = f"rlhf/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"

    @classmethod
    def connect(cls) -> Board:
        """The board of this process, from what its launcher left in the environment."""
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = TCPStore(address, port, None, False, PATIENCE, wait_for_workers=False)
        return cls(store, int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))

    def post(self, name: str, note: Any) -> None:
        """Leave this rank's note, in place of an earlier one of that name; it is there when this returns."""
        self._store.set(self._key(name, self.rank), json.dumps(note))
        self._store.check([self._key(name, self.rank)])  # `set` does not wait, and the store answers in order

    def read(self, name: str) -> list[Any]:
        """The notes of all ranks, by rank; None for one that has left none."""
        keys = [self._key(name, rank) for rank in range(self.world_size)]
        if self._store.check(keys):
            return self._read(keys)
        return [self._read([key])[0] if self._store.check([key]) else None for key in keys]

    def first(self, name: str) -> bool:
        """Whether no rank has asked this before."""
        return bool(self._store.add(f"{self._begins}/{name}", 1) == 1)

    def _read(self, keys: Sequence[str]) -> list[Any]:
        return [json.loads(text) for text in self._store.multi_get(list(keys))]

    def _key(self, name: str, rank: int) -> str:
        return f"{self._begins}/{name}/{rank}"
