"""A timeout that a server cannot outlive by sending a byte now and then.

httpx measures the pause between two reads. Here every `timeout` seconds must bring the end of the answer or another
64 KiB of it: a large export may take its time, one that drips may not.
"""

from __future__ import annotations

import time
from typing import Any

ENOUGH = 64 * 1024  # bytes


def hold_to(client: Any, timeout: float) -> None:
    """Make an `httpx.Client` raise `httpx.ReadTimeout` for answers that come too slowly; `timeout` in seconds."""
    # httpx has no public way to the sockets that keeps its handling of proxies; a test drips through this one.
    for transport in (client._transport, *client._mounts.values()):
        if transport is not None:
            transport._pool._network_backend = _Backend(transport._pool._network_backend, timeout)


class _Backend:
    """httpcore's network backend, whose connections are `_Stream`s."""

    def __init__(self, backend: Any, timeout: float) -> None:
        self.backend, self.timeout = backend, timeout

    def connect_tcp(self, *words: Any, **options: Any) -> Any:
        return _Stream(self.backend.connect_tcp(*words, **options), self.timeout)

    def connect_unix_socket(self, *words: Any, **options: Any) -> Any:
        return _Stream(self.backend.connect_unix_socket(*words, **options), self.timeout)

    def sleep(self, seconds: float) -> None:
        self.backend.sleep(seconds)


class _Stream:
    """A connection that counts what it reads since it last wrote, or since the last 64 KiB."""

    def __init__(self, stream: Any, timeout: float) -> None:
        self.stream, self.timeout = stream, timeout
        self._begin()

    def _begin(self) -> None:
        self.ends, self.came = time.monotonic() + self.timeout, 0

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        left = self.ends - time.monotonic()
        if left <= 0:
            import httpcore

            raise httpcore.ReadTimeout(f"less than {ENOUGH} bytes in {self.timeout:g} s")
        read: bytes = self.stream.read(max_bytes, timeout=left)
        self.came += len(read)
        if self.came >= ENOUGH:
            self._begin()
        return read

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.stream.write(buffer, timeout=timeout)
        self._begin()

    def close(self) -> None:
        self.stream.close()

    def start_tls(self, *words: Any, **options: Any) -> Any:
        return _Stream(self.stream.start_tls(*words, **options), self.timeout)

    def get_extra_info(self, info: str) -> Any:
        return self.stream.get_extra_info(info)
