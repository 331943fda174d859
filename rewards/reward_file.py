"""reward_model.json: what a reward model is, where it came from, and how far it may be trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, cast

from rlhf.foundation.digests import digest_files, sealed
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_json, write_json

REWARD_FILE = "reward_model.json"
Kind = Literal["token", "preference", "ensemble"]
_MADE_BY: dict[Kind, str] = {
    "token": "`rlhf reward --labels`",
    "preference": "`rlhf reward --comparisons`",
    "ensemble": "`rlhf reward --labels --ensemble`",
}


def write_reward_file(directory: Path, report: dict[str, Any]) -> dict[str, Any]:
    """Write reward_model.json beside the finished files of a reward model, with their digests; returns its contents."""
    files = {name: known for name, known in digest_files(directory, ".").items() if name != REWARD_FILE}
    content = sealed({**report, "files": files})
    write_json(directory / REWARD_FILE, content)
    return content


def read_kind(directory: Path) -> Kind:
    """Which kind of reward model `directory` holds. Raises InputError when it holds none."""
    if not directory.is_dir():
        raise InputError(
            f"reward model {directory}",
            got="no such directory" if not directory.exists() else "a file",
            expected="a directory that `rlhf reward` wrote",
            fix="check the path, or make one with `rlhf reward`",
        )
    if not (directory / REWARD_FILE).exists():
        raise InputError(
            f"reward model {directory}",
            got=f"a directory without {REWARD_FILE}",
            expected="a directory that `rlhf reward` wrote",
            fix="check the path, or make one with `rlhf reward`",
        )
    report = read_json(directory / REWARD_FILE)
    kind = report.get("kind") if isinstance(report, dict) else None
    if kind not in _MADE_BY:
        raise InputError(
            str(directory / REWARD_FILE),
            got=f"kind {kind!r}",
            expected=" or ".join(repr(name) for name in _MADE_BY),
            fix="make the reward model anew with `rlhf reward`",
        )
    return cast(Kind, kind)


def read_reward_file(directory: Path, *, kind: Kind) -> dict[str, Any]:
    """The contents of `directory`/reward_model.json. Raises InputError when absent, torn or of another kind."""
    found = read_kind(directory)
    if found != kind:
        raise InputError(
            f"reward model {directory}",
            got=f"a reward of kind {found!r}",
            expected=f"one of kind {kind!r}, made with {_MADE_BY[kind]}",
            fix="name another directory",
        )
    report: dict[str, Any] = read_json(directory / REWARD_FILE)
    if kind == "token" and report.get("target") not in ("positive", "negative"):
        raise InputError(
            str(directory / REWARD_FILE),
            got=f"target {report.get('target')!r}",
            expected="'positive' or 'negative'",
            fix="make the reward model anew with `rlhf reward`",
        )
    return report
