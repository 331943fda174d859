"""reward_model.json: what a reward model is, where it came from, and how far it may be trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from rlhf.foundation.digests import digest_files, seal_holds, sealed
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_as, write_json
from rlhf.foundation.tables import Report

REWARD_FILE = "reward_model.json"
Kind = Literal["token", "preference", "ensemble"]
_MADE_BY: dict[Kind, str] = {
    "token": "`rlhf reward --labels`",
    "preference": "`rlhf reward --comparisons`",
    "ensemble": "`rlhf reward --labels --ensemble`",
}


def write_reward_file(directory: Path, report: Mapping[str, Any]) -> Report:
    """Write reward_model.json beside the finished files of a reward model, with their digests; returns its contents."""
    files = {name: known for name, known in digest_files(directory, ".").items() if name != REWARD_FILE}
    content = Report(sealed({**report, "files": files}))
    write_json(directory / REWARD_FILE, content)
    return content


def read_report(directory: Path) -> Report:
    """The contents of `directory`/reward_model.json, whatever its kind.

    Raises InputError when there is none, when it is torn or of another shape, or changed since it was written.
    """
    if not directory.is_dir():
        raise _no_reward_model(directory, "no such directory" if not directory.exists() else "a file")
    path = directory / REWARD_FILE
    if not path.exists():
        raise _no_reward_model(directory, f"a directory without {REWARD_FILE}")
    report = read_as(path, lambda value: Report(**value))
    kind = report.get("kind")
    if not isinstance(kind, str) or kind not in _MADE_BY:
        raise _of_another_shape(path, f"kind {kind!r}", " or ".join(repr(name) for name in _MADE_BY))
    if seal_holds(report) is False:
        raise _of_another_shape(path, "contents that changed since they were written", "the file as it was written")
    _require_shape(path, report)
    return report


def read_reward_file(directory: Path, *, kind: Kind) -> Report:
    """`read_report` of a reward model of this kind. Raises InputError for another one too."""
    report = read_report(directory)
    if report["kind"] != kind:
        raise InputError(
            f"reward model {directory}",
            got=f"a reward of kind {report['kind']!r}",
            expected=f"one of kind {kind!r}, made with {_MADE_BY[kind]}",
            fix="name another directory",
        )
    return report


def _require_shape(path: Path, report: Mapping[str, Any]) -> None:
    """Raise InputError for a part that no reward model could be loaded, or no reward normalised, with."""
    if report["kind"] == "token" and report.get("target") not in ("positive", "negative"):
        raise _of_another_shape(path, f"target {report.get('target')!r}", "'positive' or 'negative'")
    if report["kind"] == "ensemble":
        members = report.get("members")
        if not isinstance(members, list) or not members or not all((path.parent / str(m)).is_dir() for m in members):
            raise _of_another_shape(path, f"members {members!r}", "the directories of its members")
        if not isinstance(report.get("aggregate"), str) or not _is_number(report.get("penalty")):
            raise _of_another_shape(path, "no aggregate with its penalty", "how the members are put together")
    known = report.get("normalization")
    if known is None:
        return
    if not isinstance(known, dict):
        raise _of_another_shape(path, f"normalization {known!r}", "offset and scale")
    if not _is_number(known.get("offset")) or not _is_number(known.get("scale")) or known["scale"] <= 0:
        got = f"offset {known.get('offset')!r} and scale {known.get('scale')!r}"
        raise _of_another_shape(path, got, "two finite numbers, the scale above 0")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _no_reward_model(directory: Path, got: str) -> InputError:
    expected, fix = "a directory that `rlhf reward` wrote", "check the path, or make one with `rlhf reward`"
    return InputError(f"reward model {directory}", got=got, expected=expected, fix=fix)


def _of_another_shape(path: Path, got: str, expected: str) -> InputError:
    return InputError(str(path), got=got, expected=expected, fix="make the reward model anew with `rlhf reward`")


def require_free(directory: Path, *, overwrite: bool) -> None:
    """Refuse, before the work, an output directory that holds anything but a reward model one may replace."""
    from rlhf.foundation.model_directory import require_replaceable

    if not (directory / REWARD_FILE).exists():
        require_replaceable(directory, marker=REWARD_FILE)
    elif not overwrite:
        raise InputError(
            "--output_dir",
            got=f"{directory}, which holds a reward model",
            expected="a new directory",
            fix="choose another one, or give --overwrite",
        )
