"""`rlhf label serve`: a local Label Studio, installed on first use; its accounts, addresses, status and end."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from labeling import server
from labeling.connection import default_directory
from rlhf.foundation.errors import InputError
from rlhf.foundation.options import Options, Several, option
from rlhf.foundation.steps import step


@dataclass(kw_only=True)
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
    raters: Several[str] = option([], help="names of raters, ana,ben,eva: an account and a project each")
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


@dataclass(frozen=True)
class Served:
    """Where the server answers (None when none runs), its accounts by name, and the folder of its data."""

    running: server.Running | None
    accounts: Mapping[str, server.Account]
    directory: Path
    stopped: bool = False


@step(ServeConfig)
def serve(config: ServeConfig) -> Served:
    """A local Label Studio: installed, started (or found running), asked for, or stopped. Raises InputError."""
    if config.stop:
        return Served(None, {}, config.directory, stopped=server.stop(config.directory))
    if config.install_only:
        server.install(server.cache_directory(), _saying(config))
        return Served(None, {}, config.directory)
    running = server.status(config.directory) if config.status else _started(config)
    return Served(running, server.read_accounts(config.directory) if running else {}, config.directory)


def _saying(config: ServeConfig) -> server.Say:
    return lambda line: None if config.quiet else print(line, file=sys.stderr, flush=True)


def _started(config: ServeConfig) -> server.Running:
    say = _saying(config)
    if config.host not in server.LOOPBACK:
        say(
            f"WARNING: --host {config.host} lets every machine that reaches this one see the login page, over "
            "plain HTTP; on an open network keep the loopback default and use the ssh tunnel below"
        )
    venv = server.cache_directory()
    server.install(venv, say)
    return server.start(config.directory, venv=venv, host=config.host, port=config.port, raters=config.raters, say=say)
