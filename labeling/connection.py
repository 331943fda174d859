"""Which server, and as whom: the one named in the environment, else the one that the folder's tasks went to."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from urllib.parse import urlsplit

from labeling.folder import Plan
from labeling.server import read_accounts, status
from labeling.studio import Studio
from rlhf.foundation.errors import InputError

URL, KEY = "LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"


def default_directory() -> Path:
    """Where the local server keeps its data."""
    return Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share")) / "rlhf" / "label-studio"


def server_directory(given: str, plan: Plan | None = None) -> Path:
    """The folder of the local server: as given, else the one that a folder's plan remembers, else the default."""
    remembered = plan.server_dir if plan else ""
    return Path(given or remembered or default_directory())


def remembering(plan: Plan, given: str) -> Plan:
    """The plan with the server that a push used: that of LABEL_STUDIO_URL, else the local one in `given`, if any."""
    if url := os.environ.get(URL):
        _require_no_secret(url)
        return dataclasses.replace(plan, server_url=url.rstrip("/"), server_dir="")
    if given:
        return dataclasses.replace(plan, server_url="", server_dir=str(Path(given).resolve()))
    return plan


def remembered_url(given: str, plan: Plan | None) -> str:
    """The address that a folder's tasks went to, "" for a local server or where `given` names one's folder."""
    return plan.server_url if plan and not given else ""


def connect(directory: Path, *, rater: str = "", timeout: float = 60.0, url: str = "") -> Studio:
    """A connection to the server of LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY, else to the one in `directory`.

    `url` is the address that a folder remembers: it stands for LABEL_STUDIO_URL where that is not set. On the local
    server `rater` connects as that rater (it alone sees its project), "" as the admin. The token is tried before
    anything else happens. Raises InputError.
    """
    given, key = os.environ.get(URL), os.environ.get(KEY)
    if given is None and key is None and url:
        raise InputError(KEY, got="nothing", expected=f"the token of {url}", fix=f"set {KEY}; the address is known")
    url = given if given is not None else url
    if not url and key is None:
        running = status(directory)
        if running is None:
            raise InputError(
                "Label Studio",
                got=f"no server running in {directory}, and no {URL}",
                expected="a server",
                fix=f"start one with `rlhf label serve`, or set {URL} and {KEY}",
            )
        account = read_accounts(directory).get(rater or "admin")
        if account is None:
            raise InputError(
                "--raters",
                got=rater,
                expected="a rater with an account",
                fix=f"make it with `rlhf label serve --raters {rater}`",
            )
        url, key = running.url, account.token
    elif not url or key is None:
        raise InputError(
            KEY if key is None else URL, got="nothing", expected="both variables", fix=f"set {URL} and {KEY}"
        )
    _require_no_secret(url)
    studio = Studio(url, key, timeout=timeout)
    studio.whoami()
    return studio


def _require_no_secret(url: str) -> None:
    """Raise InputError for an address with a user or password, which would stand in every error line and in files."""
    if urlsplit(url).username is not None or urlsplit(url).password is not None:
        raise InputError(
            URL,
            got="an address with a user or password in it",
            expected="http://HOST:PORT",
            fix=f"leave them out; the token goes into {KEY}",
        )
