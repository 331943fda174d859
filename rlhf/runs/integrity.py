"""Whether the files of a run still are what was written: by their recorded sizes and digests, part by part."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlhf.foundation.digests import FileDigest, damages, file_digest, seal_holds
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_json
from rlhf.runs.ladder import Rung
from rlhf.runs.reading import Run, damage_of, read_run

NO_DIGEST = "no digest was recorded (an older version wrote it)"
# What commands read of a run, besides checkpoints: those are checked when they are loaded.
RECORDS = ("run.json", "ladder.json", "blind_verdicts.json", "human_ladder.json")


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of files: what is to be said of it, what is wrong with it, how many bytes were read for that."""

    name: str
    says: str
    wrong: list[str] = field(default_factory=list)
    read: int = 0

    def __str__(self) -> str:
        return f"{self.name}: {'; '.join(self.wrong) or self.says}"


def files_part(name: str, root: Path, files: Mapping[str, FileDigest] | None, says: str = "") -> Part:
    """Files by their digests, paths relative to `root`."""
    if not files:
        return Part(name, NO_DIGEST)
    count = f"{len(files)} file{'s' if len(files) > 1 else ''} whole"
    return Part(name, says or count, list(damages(root, files)), sum(int(one["bytes"]) for one in files.values()))


def record_part(path: Path) -> Part:
    """A JSON file that carries the digest of its own content."""
    try:
        holds = seal_holds(read_json(path))
    except (InputError, TypeError) as error:
        return Part(path.name, "", [f"{path.name} cannot be read ({getattr(error, 'got', error)})"])
    wrong = [f"{path.name} was changed since it was written"] if holds is False else []
    return Part(path.name, "whole" if holds else NO_DIGEST, wrong, path.stat().st_size)


def metrics_part(root: Path, info: Mapping[str, Any]) -> Part:
    """metrics.jsonl by the digest in run.json; of a run that goes on or was stopped its lines up to the last state."""
    path = root / "metrics.jsonl"
    known = (info.get("files") or {}).get(path.name)
    if known is None:
        return Part(path.name, NO_DIGEST)
    content = path.read_bytes() if path.is_file() else b""
    ended = info.get("status") != "running"
    begun = content if ended else content[: known["bytes"]]
    lines = begun.count(b"\n")
    says = f"{lines} lines, whole" if ended else f"{lines} lines up to the last state, whole"
    same = hashlib.sha256(begun).hexdigest() == known["sha256"]
    wrong = "was changed since it was written" if path.is_file() else "is gone"
    return Part(path.name, says, [] if same else [f"{path.name} {wrong}"], len(begun))


def rung_part(root: Path, rung: Rung, *, samples_only: bool = False) -> Part:
    """A rung's checkpoint and samples, or its samples alone."""
    files = rung.files or {}
    own = {name: known for name, known in files.items() if not samples_only or name == rung.samples}
    return files_part(f"rung {rung.name}", root, own)


def state_part(path: Path) -> Part:
    """One state directory: its record, and the tensors that the record knows by digest."""
    record, name = record_part(path / "state.json"), f"state {path.name}"
    if record.wrong:
        return Part(name, "", record.wrong)
    known = read_json(path / "state.json").get("files", {})
    wrong = [f"{name}/{file} is gone" for file in known if not (path / file).is_file()]
    there = [file for file in known if (path / file).is_file()]
    wrong += [
        f"{name}/{one} was changed since it was written" for one in there if file_digest(path / one) != known[one]
    ]
    return Part(name, "whole", wrong, sum((path / file).stat().st_size for file in there))


def evaluation_part(root: Path) -> Part:
    """evaluation.json and the samples that it was made from."""
    path = root / "evaluation.json"
    record = record_part(path)
    if record.wrong or record.says == NO_DIGEST:
        return record
    files = read_json(path).get("files") or {}
    made = files_part(path.name, root, files, "made from samples that are unchanged")
    wrong = [f"made from samples of which {one}" for one in made.wrong]
    return Part(path.name, made.says, wrong, record.read + made.read)


def read_unchanged(
    directory: Path, wanted: Collection[str], *, accept: bool, fix: str = "restore it from a copy"
) -> tuple[Run, list[str]]:
    """The run, and what of the `wanted` parts was changed since it was written, in words.

    Parts: names of RECORDS, `metrics.jsonl`, `samples` (those stored with the rungs), `evaluation.json`. Raises
    InputError when one was changed and that is not to be accepted.
    """
    run = read_run(directory, tell=False)
    parts = [record_part(directory / name) for name in RECORDS if name in wanted and (directory / name).exists()]
    parts += [metrics_part(directory, run.info)] if "metrics.jsonl" in wanted else []
    stored = [rung for rung in run.rungs if "samples" in wanted and (directory / rung.samples).exists()]
    parts += [rung_part(directory, rung, samples_only=True) for rung in stored]
    wants = "evaluation.json" in wanted and (directory / "evaluation.json").exists()
    parts += [evaluation_part(directory)] if wants else []
    wrong = [one for part in parts for one in part.wrong]
    if wrong and not accept:
        more = f"; and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise InputError(
            str(directory),
            got=f"{wrong[0]}{more}",
            expected="the files as they were written",
            fix=f"{fix}, or go on with --accept_changes",
        )
    if any(rung.files is None for rung in run.rungs):
        print(f"rlhf: {directory}: {damage_of(run)}", file=sys.stderr)
    return run, wrong


def record_name(root: Path, names: Sequence[str]) -> str:
    """The first of the records that stands in a directory. Raises InputError when none does."""
    name = next((name for name in names if (root / name).is_file()), None)
    if name is None:
        raise InputError(
            str(root),
            got="no record of work" if root.is_dir() else "no such directory",
            expected=f"a directory that holds {', '.join(names)}",
            fix="give the --output_dir of a command that made something",
        )
    return name
