"""A loopback proxy in front of the real server that makes faults: it forwards, and then misbehaves."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Fault = Literal["pass", "502 after", "hang after", "cut after", "cut half-way", "delay"]


class FaultyProxy:
    """Forwards to `target`; `fault(method, path, n)` names what happens to the n-th request of that kind.

    "502 after", "hang after" and "cut after" happen once the server has committed; "cut half-way" sends half of the
    answer; "delay" waits `delay` seconds before forwarding, even if the client is gone by then.
    """

    def __init__(self, target: str, fault: Callable[[str, str, int], Fault], *, delay: float = 2.0) -> None:
        self.fault, self.delay = fault, delay
        self.imports = 0
        self.forwarding = 0
        self.counts: dict[tuple[str, str], int] = {}
        self.times: list[tuple[float, str]] = []
        host = urlsplit(target).netloc
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                path = urlsplit(self.path).path
                proxy.counts[self.command, path] = n = proxy.counts.get((self.command, path), 0) + 1
                if path.endswith("/import"):
                    proxy.times.append((time.monotonic(), "import"))
                fault = proxy.fault(self.command, path, n)
                proxy.forwarding += 1
                try:
                    if fault == "delay":
                        time.sleep(proxy.delay)
                    status, headers, answer = self.forward(body)
                finally:
                    proxy.forwarding -= 1
                if fault == "hang after":
                    time.sleep(proxy.delay)
                    self.close_connection = True
                    return
                if fault == "cut after":
                    self.close_connection = True
                    return
                if fault == "502 after":
                    status, headers, answer = 502, [("Content-Type", "text/html")], b"<html>Bad gateway</html>"
                self.send_response(status)
                for name, value in headers:
                    if name.lower() not in ("transfer-encoding", "connection", "content-length", "server", "date"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                if fault == "cut half-way":
                    self.wfile.write(answer[: len(answer) // 2])
                    self.wfile.flush()
                    self.close_connection = True
                    return
                self.wfile.write(answer)

            def forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
                connection = http.client.HTTPConnection(host, timeout=120)
                headers = {k: v for k, v in self.headers.items() if k.lower() not in ("connection", "accept-encoding")}
                connection.request(self.command, self.path, body=body or None, headers=headers)
                answer = connection.getresponse()
                return answer.status, answer.getheaders(), answer.read()

            do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = handle_one

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # clients are killed on purpose

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self.server.shutdown()
        self.server.server_close()


def on_imports(fault: Fault, which: Callable[[int], bool]) -> Callable[[str, str, int], Fault]:
    """A fault for the imports whose number (from 1) satisfies `which`; everything else passes."""

    def choose(method: str, path: str, n: int) -> Fault:
        return fault if method == "POST" and path.endswith("/import") and which(n) else "pass"

    return choose
