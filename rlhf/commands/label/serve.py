"""`rlhf label serve`: a local Label Studio in one command, installed, started and stopped for you."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Mapping

from labeling import server
from labeling.steps.serve import ServeConfig, serve
from rlhf.commands.command_line import parse
from rlhf.commands.next_step import next_step
from rlhf.foundation.terminal import say


def main(argv: list[str]) -> None:
    """Parse the options, do what they ask, and print what to hand out."""
    config = parse(ServeConfig, argv, prog="rlhf label serve", description=(__doc__ or "").split(": ", 1)[1])
    served = serve.run(config)
    if config.install_only:
        say(f"Label Studio {server.VERSION} is installed in {server.cache_directory()}")
    elif config.stop:
        say("stopped" if served.stopped else f"no server was running in {served.directory}")
    elif served.running is None:
        say(f"no server is running in {served.directory}")
    else:
        say("\n".join(handout(served.running, served.accounts, passwords=config.show_passwords)))
        say(f"credentials: {served.directory / 'credentials.json'} (only you can read it)")
        push = "rlhf label push --samples samples.jsonl --output_dir labels"
        say(next_step(push, config, "server_dir", raters=",".join(config.raters)))


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
