"""`rlhf inspect --watch`: the live report at one address of this machine that only whoever started it knows.

The address holds a random token; requests without it, or for another host's name (DNS rebinding), are refused.
"""

from __future__ import annotations

import hmac
import secrets
import sys
import threading
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from rlhf.foundation.errors import InputError
from rlhf.inspection.live_report import LiveReport

HOST = "127.0.0.1"
POLL = 1.0  # seconds between looks at the run
LINGER = 15.0  # seconds at most that the last page waits for a browser that was looking a moment ago
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class LiveServer(ThreadingHTTPServer):
    """Serves one live report at `url`."""

    daemon_threads = True

    def __init__(self, report: LiveReport, port: int = 0) -> None:
        """Raises InputError when the port is taken."""
        self.report, self.token, self.asked = report, secrets.token_urlsafe(24), 0.0
        try:
            super().__init__((HOST, port), _Answers)
        except OSError as error:
            fix = "choose another port, or leave it out for a free one"
            raise InputError("--port", got=f"{port}, {error.strerror}", expected="a free port", fix=fix) from error

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{HOST}:{self.server_port}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is no fault."""
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class _Answers(BaseHTTPRequestHandler):
    server: LiveServer
    server_version, sys_version = "rlhf", ""
    timeout = 30

    def do_GET(self) -> None:
        names = {f"{name}:{self.server.server_port}" for name in (HOST, "localhost")}
        token, slash, place = self.path.removeprefix("/").partition("/")
        known = hmac.compare_digest(token.encode(errors="replace"), self.server.token.encode())
        if self.headers.get("Host") not in names or not known:
            return self._answer(HTTPStatus.FORBIDDEN, "text/plain", "Only the address that rlhf printed is answered.\n")
        self.server.asked = time.monotonic()
        if slash and not place:
            return self._answer(HTTPStatus.OK, "text/html", self.server.report.page())
        if place == "state":
            return self._answer(HTTPStatus.OK, "text/plain", self.server.report.version)
        return self._answer(HTTPStatus.NOT_FOUND, "text/plain", "There is one page here.\n")

    do_HEAD = do_GET

    def _answer(self, status: HTTPStatus, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """The address is a secret: no log holds it."""


def watch(directories: Sequence[Path], port: int = 0, *, tell: Callable[[str], object], quiet: bool = False) -> bool:
    """Serve the report of runs until the last one has ended, or has already; False when Ctrl-C came first.

    `tell` gets the address, and unless `quiet` a line of progress at every rung. Raises InputError when the port is
    taken.
    """
    report = LiveReport(directories)
    if report.ended:
        tell("; ".join([*report.progress(), "there is nothing to wait for"]))
        return True
    with LiveServer(report, port) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        try:
            tell(f"live report: {server.url} (until the run ends; Ctrl-C ends it sooner, and never the run)")
            _until_ended(report, (lambda line: None) if quiet else tell)
            _until_shown(server)
        except KeyboardInterrupt:
            tell("no longer watched; the run goes on")
            return False
        finally:
            server.shutdown()
    return True


def _until_ended(report: LiveReport, tell: Callable[[str], object]) -> None:
    rungs: list[Any] = []
    while True:
        ended = report.ended
        now = [_size(directory / "ladder.json") for directory in report.directories]
        if now != rungs or ended:
            rungs = now
            for line in report.progress():
                tell(line)
        if ended:
            return
        time.sleep(POLL)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _until_shown(server: LiveServer) -> None:
    """A browser that asked a moment ago gets the last page before the server goes."""
    end = time.monotonic()
    while server.asked > end - LINGER and time.monotonic() < end + LINGER and not server.report.shown_last:
        time.sleep(0.1)
