"""A server that answers JSON of another shape, or a byte now and then: one line, within the timeout."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from labeling.studio import Studio, Uncertain
from rlhf.foundation.errors import InputError

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
TOKEN = "f" * 40


@contextmanager
def server(pieces: list[bytes], pause: float = 0.0) -> Iterator[str]:
    """Answers every request with the pieces, `pause` seconds before each; its address."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(65536)
                for piece in pieces:
                    time.sleep(pause)
                    connection.sendall(piece)
            except OSError:
                pass  # the client has gone

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()


def whole(body: bytes) -> list[bytes]:
    return [HEAD + f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body]


@pytest.mark.parametrize("body", [b"[1, 2]", b"null", b"3", b'"x"', b"[null]", b"{}", b"[[]]", b"[" * 20_000])
def test_json_of_another_shape(body: bytes) -> None:
    with server(whole(body)) as url:
        studio = Studio(url, TOKEN, timeout=5)
        calls: list[Callable[[], object]] = [
            studio.whoami,
            lambda: studio.project(1),
            lambda: studio.list_tasks(1),
            lambda: studio.export(1),
            lambda: studio.is_untouched(1),
            lambda: studio.create_project("t", "<View/>", instruction="", by_priority=False),
        ]
        for call in calls:
            with pytest.raises(InputError, match="not Label Studio's JSON") as caught:
                call()
            assert "\n" not in str(caught.value)
        with pytest.raises(Uncertain):
            studio.import_tasks(1, [{"data": {"text": "a"}}])


@pytest.mark.parametrize(
    "pieces",
    [
        [HEAD + b"Content-Length: 90\r\n\r\n", *[b" "] * 90],
        [HEAD, *[b"X"] * 90],
    ],
    ids=["body", "headers"],
)
def test_a_server_that_drips_is_given_up_at_the_timeout(pieces: list[bytes]) -> None:
    with server(pieces, pause=0.1) as url:
        begun = time.monotonic()
        with pytest.raises(InputError, match=r"no answer within 0\.5 s"):
            Studio(url, TOKEN, timeout=0.5).users()
        assert time.monotonic() - begun < 5  # the reading is tried three times; the drip would take nine seconds


def test_a_long_answer_at_a_good_pace_may_take_longer_than_the_timeout() -> None:
    """2 MB in 20 pieces, 0.05 s apart: a second in all, twice the timeout."""
    body = b'[{"id": 1, "x": "' + b"a" * 2_000_000 + b'"}]'
    pieces = [body[i : i + 100_000] for i in range(0, len(body), 100_000)]
    with server([HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode(), *pieces], pause=0.05) as url:
        begun = time.monotonic()
        assert Studio(url, TOKEN, timeout=0.5).export(1)[0]["id"] == 1
        assert time.monotonic() - begun > 0.8
