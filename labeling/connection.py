"""Which server, and as whom: the one named in the environment, else the local one."""

from __future__ import annotations

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


def connect(directory: Path, *, rater: str = "", timeout: float = 60.0) -> Studio:
    """A connection to the server of LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY, else to the one in `directory`.

    On the local server `rater` connects as that rater (it alone sees its project), "" as the admin. The token is
    tried before anything else happens. Raises InputError.
    """
    url, key = os.environ.get(URL), os.environ.get(KEY)
    if url is None and key is None:
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
    elif url is None or key is None:
        raise InputError(
            URL if url is None else KEY, got="nothing", expected="both variables", fix=f"set {URL} and {KEY}"
        )
    if urlsplit(url).username is not None or urlsplit(url).password is not None:  # it would stand in every error line
        raise InputError(
            URL,
            got="an address with a user or password in it",
            expected="http://HOST:PORT",
            fix=f"leave them out; the token goes into {KEY}",
        )
    studio = Studio(url, key, timeout=timeout)
    studio.whoami()
    return studio
