"""A local Label Studio: its own virtual environment, accounts made for it, a port verified to be ours.

How it differs from `label-studio start`:
1. It binds the loopback address unless told otherwise (the default there is every address).
2. It starts in a clean environment: Label Studio reads bare DEBUG, HOST, PORT, USERNAME and CI, and it reports to
   its makers unless told not to.
3. Passwords and tokens go in through standard input, and stay in one file that only the owner reads.
4. A busy port makes Label Studio take the next one without a word; ours asks the server who it is, with a token
   that nobody else has, before it believes it.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_as, write_json
from rlhf.foundation.locks import holder, lock_file, made_for

VERSION = "1.23.2"
LOOPBACK = ("127.0.0.1", "localhost")
START_SECONDS = 180.0
TELEMETRY_OFF = {
    "SENTRY_DSN": "",
    "FRONTEND_SENTRY_DSN": "",
    "COLLECT_ANALYTICS": "false",
    "LATEST_VERSION_CHECK": "false",
    "FEATURE_FLAGS_OFFLINE": "true",
}
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Account:
    """One account of the local server. Its `repr` hides the secrets."""

    name: str
    email: str
    password: str
    token: str

    def __repr__(self) -> str:
        return f"Account({self.name!r}, {self.email!r})"


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answered as ours: `url` as this machine reaches it, `pid` of its process."""

    url: str
    pid: int
    host: str
    port: int


def cache_directory() -> Path:
    """Where the server's virtual environment lives: RLHF_LABEL_STUDIO_VENV, or a folder of the user's cache."""
    if given := os.environ.get("RLHF_LABEL_STUDIO_VENV"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "rlhf" / f"label-studio-{VERSION}"


def is_installed(venv: Path) -> bool:
    """Whether Label Studio can be started from `venv`."""
    return (venv / "bin" / "label-studio").exists() and (venv / "bin" / "python").exists()


def install(venv: Path, say: Say) -> None:
    """Make the virtual environment (about a minute, 1 GB) unless it is there; safe to interrupt and run again.

    Label Studio pins numpy, Django and about 90 other packages, so it never shares our environment. Raises
    InputError when pip fails.
    """
    if is_installed(venv):
        return
    with locked(venv.parent / f".{venv.name}.lock", "another `rlhf label serve` is installing Label Studio"):
        if is_installed(venv):
            return
        say(f"installing Label Studio {VERSION} into {venv} (once, about a minute, 1 GB)")
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True, capture_output=True)
        command = [str(venv / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check"]
        if failure := _watched([*command, f"label-studio=={VERSION}"], say):
            raise InputError(
                f"pip install label-studio=={VERSION}",
                got=failure[-1][:200],
                expected="an installation",
                fix="check the network and the disk (1 GB), then run the same command again",
            )


def _watched(command: Sequence[str], say: Say) -> list[str]:
    """Run pip, say every few seconds what it is at; its last lines if it failed, else []."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    started, said, lines = time.monotonic(), 0.0, [""]
    assert process.stdout is not None
    for line in process.stdout:
        lines = [*lines[-4:], line.strip()]
        if time.monotonic() - said > 5 and line.startswith(("Collecting", "Installing")):
            said = time.monotonic()
            say(f"  {said - started:3.0f} s: {line.strip()[:80]}")
    return lines if process.wait() else []


@contextmanager
def locked(path: Path, meaning: str) -> Iterator[None]:
    """Hold the lock file `path`. Raises InputError at once when another process holds it, or on a bad disk.

    A directory that was made for the lock alone goes again when the work fails.
    """
    with made_for(path.parent, lock=path.name):
        descriptor = lock_file(path)
        if descriptor is None:
            raise InputError(
                str(path.parent),
                got=f"a folder in use by {holder(path)}",
                expected="one command at a time",
                fix=f"wait: {meaning}",
            )
        try:
            yield
        finally:
            os.close(descriptor)


def new_account(name: str) -> Account:
    """An account with a random password and token (the token: 40 hexadecimal digits, Label Studio's legacy kind)."""
    return Account(name, f"{name}@rater.example", secrets.token_urlsafe(12), secrets.token_hex(20))


def read_accounts(directory: Path) -> dict[str, Account]:
    """Accounts of the server in `directory` by name; {} before its first start."""
    path = directory / "credentials.json"
    if not path.exists():
        return {}
    return read_as(path, lambda value: {name: Account(**fields) for name, fields in value.items()})


def write_accounts(directory: Path, accounts: Mapping[str, Account]) -> None:
    """Write the credentials, readable by the owner alone from the first byte on."""
    path = directory / "credentials.json"
    before = os.umask(0o077)
    try:
        write_json(path, {name: asdict(account) for name, account in accounts.items()})
    finally:
        os.umask(before)


def start(
    directory: Path,
    *,
    venv: Path,
    host: str = "127.0.0.1",
    port: int = 0,
    raters: Sequence[str] = (),
    say: Say,
) -> Running:
    """Start the server that lives in `directory`, or return it when it runs already; makes missing accounts.

    `port` 0 takes a free one. Raises InputError when the port is busy or the server does not come up.
    """
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
    with locked(directory / ".lock", "another `rlhf label serve` is at work there"):
        accounts = read_accounts(directory)
        new = [name for name in ("admin", *raters) if name not in accounts]
        accounts.update({name: new_account(name) for name in new})
        # Credentials go to the disk first: an account whose password nobody kept would be lost.
        write_accounts(directory, accounts)
        if sorted(accounts) != _made_accounts(directory):
            _make_accounts(directory, venv, list(accounts.values()), say)
        running = status(directory)
        if running is None:
            running = _start_process(directory, venv, host, port, accounts["admin"].token, say)
        return running


def _environment(directory: Path) -> dict[str, str]:
    home = directory / "home"
    home.mkdir(exist_ok=True)
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
    return {
        **kept,
        **TELEMETRY_OFF,
        "LANG": "C.UTF-8",
        "HOME": str(home),
        "LABEL_STUDIO_BASE_DATA_DIR": str(directory / "data"),
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
    }


def _made_accounts(directory: Path) -> list[str]:
    path = directory / "accounts_made.json"
    return read_as(path, list) if path.exists() else []


def _make_accounts(directory: Path, venv: Path, accounts: list[Account], say: Say) -> None:
    first = not (directory / "data").exists()
    say("preparing the database and the accounts" + (" (first start: about a minute)" if first else ""))
    done = subprocess.run(
        [str(venv / "bin" / "python"), "-P", str(Path(__file__).with_name("server_accounts.py"))],
        input=json.dumps({"accounts": [asdict(account) for account in accounts]}),
        env=_environment(directory),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        (directory / "server.log").write_text(done.stderr, encoding="utf-8")
        raise _failed(directory, "the database and accounts could not be made")
    write_json(directory / "accounts_made.json", sorted(account.name for account in accounts))


def _start_process(directory: Path, venv: Path, host: str, port: int, token: str, say: Say) -> Running:
    if port and not _is_free(host, port):
        raise InputError(
            "--port", got=f"{port}, which is in use", expected="a free port", fix="choose another or leave it out"
        )
    for _ in range(3):  # a free port can be taken between the look and the start
        chosen = port or _free_port(host, directory / "last_port.json")
        reached = "127.0.0.1" if host in ("0.0.0.0", "localhost") else host
        say(f"starting Label Studio on {host}:{chosen}")
        with (directory / "server.log").open("a") as log:
            process = subprocess.Popen(
                [
                    str(venv / "bin" / "label-studio"),
                    "start",
                    "--no-browser",
                    "--internal-host",
                    host,
                    "--port",
                    str(chosen),
                    "--data-dir",
                    str(directory / "data"),
                    "--log-level",
                    "WARNING",
                ],
                env=_environment(directory),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        running = Running(f"http://{reached}:{chosen}", process.pid, host, chosen)
        if _comes_up(process, running.url, token):
            write_json(directory / "server.json", asdict(running))
            write_json(directory / "last_port.json", chosen)
            return running
        process.terminate()
        process.wait()
    raise _failed(directory, "the server did not come up as ours")


def _failed(directory: Path, what: str) -> InputError:
    return InputError(
        "Label Studio", got=what, expected="a running server", fix=f"read {directory / 'server.log'} and start again"
    )


def _comes_up(process: subprocess.Popen[bytes], url: str, token: str) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if answers_as_ours(url, token):
            return True
        time.sleep(0.2)
    return False


def answers_as_ours(url: str, token: str) -> bool:
    """Whether the server at `url` knows the token: a stranger on the same port does not."""
    request = urllib.request.Request(f"{url}/api/current-user/whoami", headers={"Authorization": f"Token {token}"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a web proxy
    try:
        with opener.open(request, timeout=5) as answer:
            return bool(answer.status == 200 and json.load(answer).get("email"))
    except (OSError, ValueError):
        return False


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port is free while its last users time out
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def _free_port(host: str, last: Path) -> int:
    """The port of the last start, so that addresses handed out stay valid, if it is free; else any free one."""
    if last.exists() and _is_free(host, read_as(last, int)):
        return read_as(last, int)
    with socket.socket(socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def status(directory: Path) -> Running | None:
    """The server of `directory` if it runs and answers as ours, else None."""
    path = directory / "server.json"
    accounts = read_accounts(directory)
    if not path.exists() or "admin" not in accounts:
        return None
    running = read_as(path, lambda value: Running(**value))
    return running if answers_as_ours(running.url, accounts["admin"].token) else None


def stop(directory: Path) -> bool:
    """End the server of `directory` (SIGTERM, then SIGKILL after 10 s); False when none runs."""
    path = directory / "server.json"
    if not path.exists():
        return False
    pid = read_as(path, lambda value: Running(**value)).pid
    was_ours = _is_label_studio(pid)
    if was_ours:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 10
        while _is_label_studio(pid):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
    path.unlink()
    return was_ours


def _is_label_studio(pid: int) -> bool:
    """Whether `pid` is a live Label Studio: a number may have been given to another process since."""
    shown = subprocess.run(["ps", "-p", str(pid), "-o", "stat=,command="], capture_output=True, text=True).stdout
    return "label-studio" in shown and not shown.lstrip().startswith("Z")
