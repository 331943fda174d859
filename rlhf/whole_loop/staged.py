"""Work in stages that survives an interruption: a stage whose product stands is passed over."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhf.foundation.digests import digest_files, write_sealed
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_object
from rlhf.foundation.leftovers import sweep
from rlhf.foundation.locks import made_for
from rlhf.foundation.recorded_paths import STAGE_PATHS, recorded_paths

# Facts of the first stage: the files that the options name, what it was made with.
KEPT = {"paths", "versions", "git_revision", "hardware"}


class StagedWork:
    """One directory, the options it was begun with, and the seconds of each stage, kept in `record` (JSON).

    The record is first written when a stage is done: options with which nothing could be made bind nobody. It holds,
    besides, size and digest of the files of every stage that keeps no record of its own, where the files are that the
    options name, and versions and hardware of the first stage.
    """

    def __init__(self, root: Path, record: Path, config: Mapping[str, Any]) -> None:
        """Read the record of an earlier try, or begin one.

        Raises InputError when the directory holds something else, or was begun with other options.
        """
        self.root, self.record, self.config = root, record, dict(config)
        self.seconds: dict[str, float] = {}
        self.kept: dict[str, Any] = {"files": {}}
        if record.exists():
            then = read_object(record, "config", "seconds")
            self.seconds = then["seconds"]
            self.kept = {key: then[key] for key in (*KEPT, "files") if key in then}
            changed = [key for key in config if then["config"].get(key) != config[key]]
            if changed:
                raise InputError(
                    f"--{changed[0]}",
                    got=f"{config[changed[0]]} in {root}",
                    expected=f"{then['config'].get(changed[0])}, as it began",
                    fix="choose another --output_dir",
                )
        elif root.is_dir() and any(not path.name.startswith(".") for path in root.iterdir()):
            raise InputError(
                "--output_dir",
                got=f"{root}, not empty and without {record.name}",
                expected="a new directory",
                fix="choose another one",
            )

    def do(
        self, name: str, product: Path, work: Callable[[], object], announce: str, *, files: Sequence[Path] = ()
    ) -> None:
        """Do a stage unless its product stands, and note its seconds; `announce` is printed before it.

        The digests of `files` are kept. The seconds of a stage that was interrupted count when a record stands already.
        """
        if is_done(product):
            return
        print(announce, flush=True)
        started = time.perf_counter()
        try:
            with made_for(self.root):
                work()
                self._keep(files)
        finally:
            if self.record.exists() or is_done(product):
                self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - started, 2)
                write_sealed(self.record, {"config": self.config, "seconds": self.seconds, **self.kept})

    def _keep(self, files: Sequence[Path]) -> None:
        from rlhf.foundation.host import host_facts

        places = [path.relative_to(self.root).as_posix() for path in files]
        self.kept["files"] = {**self.kept.get("files", {}), **digest_files(self.root, *places)}
        if not self.kept.keys() >= KEPT:
            self.kept |= {"paths": recorded_paths(self.config, self.root, STAGE_PATHS), **host_facts()}


def is_done(product: Path) -> bool:
    """Whether a stage's product stands; products appear by a rename, so a half of one never does.

    One that a killed writer had moved aside is put back first. A PPO run is named by its run.json, and done when that
    says so.
    """
    if not product.exists():
        sweep(product.parent, product.name)
    if product.name == "run.json":
        return product.exists() and read_object(product).get("status") == "finished"
    return product.exists()
