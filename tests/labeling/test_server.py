"""The local server: secrets that stay put, a port that is ours, an end that is an end."""

from __future__ import annotations

import http.cookiejar
import os
import shutil
import socket
import stat
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from labeling import server
from labeling.connection import connect
from labeling.steps.serve import ServeConfig, serve
from rlhf.commands.label.serve import handout
from rlhf.foundation.errors import InputError
from tests.labeling.conftest import Live


def submit(url: str, form: dict[str, str]) -> str:
    """Fill in a form as a browser does; the address it ends at."""
    jar = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    opener.open(url).close()
    token = next(cookie.value for cookie in jar if cookie.name == "csrftoken")
    fields = urllib.parse.urlencode({**form, "csrfmiddlewaretoken": token or ""}).encode()
    origin = "/".join(url.split("/")[:3])
    with opener.open(urllib.request.Request(url, fields, {"Origin": origin})) as answer:
        return str(answer.url)


def test_credentials_are_the_owners_alone_and_repr_hides_them(tmp_path: Path) -> None:
    account = server.new_account("ana")
    server.write_accounts(tmp_path, {"ana": account})
    mode = stat.S_IMODE((tmp_path / "credentials.json").stat().st_mode)
    assert mode == 0o600
    assert server.read_accounts(tmp_path) == {"ana": account}
    assert account.password not in repr(account)
    assert account.token not in repr({"ana": account})


def test_a_stranger_on_the_port_is_not_ours() -> None:
    class Stranger(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(401)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    web = HTTPServer(("127.0.0.1", 0), Stranger)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    assert not server.answers_as_ours(f"http://127.0.0.1:{web.server_address[1]}", "t" * 40)
    assert not server.answers_as_ours("http://127.0.0.1:9", "t" * 40)
    web.shutdown()


def test_stop_never_ends_a_process_that_is_not_label_studio(tmp_path: Path) -> None:
    """The pid in the file may have been given to another process since."""
    other = subprocess.Popen(["sleep", "30"])
    server.write_json(tmp_path / "server.json", {"url": "", "pid": other.pid, "host": "127.0.0.1", "port": 1})
    assert server.stop(tmp_path) is False
    assert other.poll() is None
    other.terminate()
    other.wait()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"raters": ["ana,ana"]}, "distinct names"),
        ({"raters": ["a b"]}, "letters and digits"),
        ({"raters": ["admin"]}, "not admin"),
        ({"port": 80}, "1024 to 65535"),
    ],
)
def test_options_out_of_range(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ServeConfig(**options)  # type: ignore[arg-type]


def test_no_server_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABEL_STUDIO_URL", raising=False)
    monkeypatch.delenv("LABEL_STUDIO_API_KEY", raising=False)
    with pytest.raises(InputError, match="rlhf label serve"):
        connect(tmp_path)
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://127.0.0.1:9")
    with pytest.raises(InputError, match="both variables"):
        connect(tmp_path)


@pytest.mark.real
def test_the_running_server_keeps_its_secrets(label_studio: Live) -> None:
    """Neither the process list, nor its environment, nor any file but one, holds a token or a password."""
    running = server.status(label_studio.directory)
    assert running is not None
    command = Path(f"/proc/{running.pid}/cmdline").read_bytes()
    environment = Path(f"/proc/{running.pid}/environ").read_bytes()
    assert b"127.0.0.1" in command
    for account in label_studio.accounts.values():
        for secret in (account.token, account.password):
            assert secret.encode() not in command + environment
            log = (label_studio.directory / "server.log").read_text(encoding="utf-8")
            assert secret not in log
    assert stat.S_IMODE((label_studio.directory / "credentials.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(label_studio.directory.stat().st_mode) == 0o700


@pytest.mark.real
def test_serving_again_finds_the_server_that_runs(label_studio: Live) -> None:
    config = ServeConfig(server_dir=str(label_studio.directory), quiet=True)
    running = serve.run(config).running
    assert running is not None
    assert running == server.status(label_studio.directory)
    lines = handout(running, label_studio.accounts, passwords=False)
    assert any(line.startswith("from another machine: ssh -N -L") for line in lines)
    assert not any(a.password in line or a.token in line for a in label_studio.accounts.values() for line in lines)


@pytest.mark.real
def test_nobody_signs_up_unasked(label_studio: Live) -> None:
    form = {"email": "stranger@example.com", "password": "a-long-password-1"}
    with pytest.raises(urllib.error.HTTPError, match="403"):
        submit(f"{label_studio.url}/user/signup/", form)


@pytest.mark.real
def test_a_busy_port_is_refused(label_studio: Live, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = int(taken.getsockname()[1])
        accounts = {"admin": label_studio.accounts["admin"]}
        server.write_accounts(tmp_path, accounts)
        server.write_json(tmp_path / "accounts_made.json", ["admin"])
        with pytest.raises(InputError, match="which is in use"):
            server.start(tmp_path, venv=server.cache_directory(), port=port, say=print)


@pytest.mark.real
@pytest.mark.slow
def test_start_stop_start_keeps_port_and_data(
    label_studio: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(lambda: server.stop(tmp_path / "server"))
    venv = server.cache_directory()
    shutil.copytree(venv / "migrated", tmp_path / "server")
    first = server.start(tmp_path / "server", venv=venv, raters=["zoe"], say=print)  # a new account on the way
    token = server.read_accounts(tmp_path / "server")["zoe"].token
    assert server.answers_as_ours(first.url, token)
    assert server.stop(tmp_path / "server") is True
    assert server.status(tmp_path / "server") is None
    assert not os.path.exists(f"/proc/{first.pid}") or "Z" in Path(f"/proc/{first.pid}/stat").read_text()
    capsys.readouterr()
    # Another address of this machine stands for the laboratory's: it is warned of, and people can log in there.
    second = serve(server_dir=str(tmp_path / "server"), host="127.0.0.2").running
    assert second is not None
    assert "WARNING: --host 127.0.0.2" in capsys.readouterr().err
    assert second.port == first.port
    assert second.url == f"http://127.0.0.2:{first.port}"
    assert server.answers_as_ours(second.url, token)
    assert not server.answers_as_ours(first.url, token)
    account = server.read_accounts(tmp_path / "server")["zoe"]
    answer = submit(f"{second.url}/user/login/", {"email": account.email, "password": account.password})
    assert "/user/login" not in answer
