"""A server on the loopback that speaks OpenAI's chat completions, and fails in all the ways that servers do."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

KEY = "sk-loopback-0123456789abcdef"
MODEL = "judge-1"
TOKENS = (11, 3)  # prompt and completion, of every answer


class Asked(NamedTuple):
    """A request: its first message, how many came with it before, and all of it."""

    question: str
    before: int
    body: dict[str, Any]


Reply = Callable[[Asked], str | None]
"""What the model says, or None for an answer without content."""
Fault = Callable[[Asked], str | None]
"""What goes wrong with a request: 500, 429, 429-later, hang, cut, page, or None."""


class JudgeServer(ThreadingHTTPServer):
    """Counts what it is asked and what it answered; `replies` are those that reached the wire whole, by question."""

    daemon_threads = True
    request_queue_size = 256
    block_on_close = False

    def __init__(self, reply: Reply, fault: Fault = lambda asked: None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply, self.fault = reply, fault
        self.requests: Counter[str] = Counter()
        self.replies: dict[str, list[str | None]] = {}
        self.faults: Counter[str] = Counter()
        self.waits: list[tuple[str, float]] = []
        self.open_now = self.most_open = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """Its base address."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: JudgeServer

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        if self.path != "/v1/chat/completions":
            return self._send(404, {"error": {"message": f"no {self.path} here"}})
        if self.headers.get("Authorization") != f"Bearer {KEY}":
            sent = self.headers.get("Authorization")
            return self._send(401, {"error": {"message": f"Incorrect API key provided: {sent}"}})
        if body["model"] != MODEL:
            return self._send(404, {"error": {"message": f"The model {body['model']} does not exist"}})
        question = body["messages"][0]["content"]
        with server.lock:
            asked = Asked(question, server.requests[question], body)
            server.requests[question] += 1
            server.open_now += 1
            server.most_open = max(server.most_open, server.open_now)
        try:
            self._answer(asked)
        finally:
            with server.lock:
                server.open_now -= 1

    def _answer(self, asked: Asked) -> None:
        server, fault = self.server, self.server.fault(asked)
        said = server.reply(asked) if fault is None or fault == "cut" else ""
        choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
        if said is not None and said.startswith("LONG "):
            choice["finish_reason"] = "length"
        usage = {"prompt_tokens": TOKENS[0], "completion_tokens": TOKENS[1], "total_tokens": sum(TOKENS)}
        answer = {"id": "1", "object": "chat.completion", "model": MODEL, "choices": [choice], "usage": usage}
        with server.lock:
            server.waits.append((asked.question, time.monotonic()))
            if fault is not None:
                server.faults[fault] += 1
            else:
                server.replies.setdefault(asked.question, []).append(said)
        if fault is None:
            self._send(200, answer)
        elif fault == "500":
            self._send(500, {"error": {"message": "out of order"}})
        elif fault.startswith("429"):
            wait = fault.partition("-")[2] or "1"
            self._send(429, {"error": {"message": "slow down"}}, {"Retry-After": wait})
        elif fault == "hang":
            time.sleep(2.5)
            self.close_connection = True
        elif fault == "page":
            self._send_bytes(200, b"<html>maintenance</html>", "text/html", {})
        else:
            whole = json.dumps(answer).encode()
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(whole)}\r\n\r\n"
            self.wfile.write(head.encode() + whole[: len(whole) // 2])
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def _send(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        self._send_bytes(status, json.dumps(value).encode(), "application/json", headers or {})

    def _send_bytes(self, status: int, content: bytes, kind: str, headers: dict[str, str]) -> None:
        given = {"Content-Type": kind, "Content-Length": str(len(content)), **headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        self.wfile.write(f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + content)


@contextmanager
def serving(reply: Reply, fault: Fault = lambda asked: None) -> Iterator[JudgeServer]:
    """A server that runs in a thread until the block ends."""
    server = JudgeServer(reply, fault)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
