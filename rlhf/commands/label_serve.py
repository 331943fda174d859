"""`rlhf label serve`: a local Label Studio, installed on first use; its accounts, addresses, status and end."""

from __future__ import annotations

import getpass
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from labeling import server
from labeling.connection import default_directory
from rlhf.foundation.errors import InputError
from rlhf.foundation.terminal import say
from rlhf.option_fields import Options
from rlhf.options import option, parse


@dataclass
class ServeConfig(Options):
    """Options of `rlhf label serve`."""

    NOT_WITH: ClassVar[Mapping[str, str]] = {
        "status": "stop install_only",
        "stop": "install_only",
        "host": "status stop install_only",
        "port": "status stop install_only",
        "raters": "status stop install_only",
        "show_passwords": "stop install_only",
    }

    server_dir: str = option("", help="folder of the server's data (default: ~/.local/share/rlhf/label-studio)")
    host: str = option("127.0.0.1", help="address to listen on; anything but loopback lets other machines in")
    port: int = option(0, help="port, 1024 to 65535; 0 takes the one of the last start, else a free one")
    raters: list[str] = option([], help="names of raters, ana,ben,eva: an account and a project each")
    status: bool = option(False, help="say whether it runs, and stop there")
    stop: bool = option(False, help="end the server; its data stay")
    install_only: bool = option(False, help="make the server's virtual environment and stop there")
    show_passwords: bool = option(False, help="print the passwords to hand out (they stand in credentials.json)")
    quiet: bool = option(False, help="print only the result")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.raters = [name for text in self.raters for name in text.split(",") if name]
        bad = [n for n in self.raters if not (n.isascii() and n.isalnum()) or n == "admin"]
        if bad or len(set(self.raters)) < len(self.raters):
            raise InputError(
                "--raters",
                got=", ".join(bad or self.raters),
                expected="distinct names of letters and digits, not admin",
                fix="for example --raters ana,ben,eva",
            )
        if self.port and not 1024 <= self.port <= 65535:
            raise InputError("--port", got=self.port, expected="0 or 1024 to 65535", fix="leave it out for a free port")

    @property
    def directory(self) -> Path:
        """Folder of the server's data."""
        return Path(self.server_dir) if self.server_dir else default_directory()


def run(config: ServeConfig) -> server.Running:
    """Start the server (or find it running) and return where it answers. Raises InputError."""

    def say(line: str) -> None:
        if not config.quiet:
            print(line, file=sys.stderr, flush=True)

    if config.host not in server.LOOPBACK:
        say(
            f"WARNING: --host {config.host} lets every machine that reaches this one see the login page, over "
            "plain HTTP; on an open network keep the loopback default and use the ssh tunnel below"
        )
    venv = server.cache_directory()
    server.install(venv, say)
    return server.start(config.directory, venv=venv, host=config.host, port=config.port, raters=config.raters, say=say)


def handout(running: server.Running, accounts: Mapping[str, server.Account], *, passwords: bool) -> list[str]:
    """Lines to hand out: the address, who logs in as what, and the tunnel for people on other machines."""
    local = running.host in server.LOOPBACK
    address = f"http://{socket.getfqdn()}:{running.port}" if running.host == "0.0.0.0" else running.url
    lines = [f"Label Studio answers at {address} (process {running.pid})"]
    for account in accounts.values():
        secret = account.password if passwords else "(see credentials.json)"
        lines.append(f"  {account.name}: {account.email}  password {secret}  {address}/user/login/")
    if local:
        here = f"{getpass.getuser()}@{socket.gethostname()}"
        lines.append(f"from another machine: ssh -N -L {running.port}:127.0.0.1:{running.port} {here}")
    return lines


def main(argv: list[str]) -> None:
    """Parse the options and do what they ask."""
    config = parse(ServeConfig, argv, prog="rlhf label serve", description=(__doc__ or "").split(": ", 1)[1])
    if config.install_only:
        server.install(server.cache_directory(), lambda line: print(line, file=sys.stderr))
        say(f"Label Studio {server.VERSION} is installed in {server.cache_directory()}")
        return
    if config.stop:
        print("stopped" if server.stop(config.directory) else f"no server was running in {config.directory}")
        return
    running = server.status(config.directory) if config.status else run(config)
    if running is None:
        say(f"no server is running in {config.directory}")
        return
    accounts = server.read_accounts(config.directory)
    say("\n".join(handout(running, accounts, passwords=config.show_passwords)))
    say(f"credentials: {config.directory / 'credentials.json'} (only you can read it)")
    print("next: rlhf label push --samples samples.jsonl --output_dir labels")
