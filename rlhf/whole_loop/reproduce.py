"""`rlhf reproduce RUN`: do the recorded work again and compare every number with what stands.

RUN is a directory of `rlhf ppo`, `rlhf demo`, `rlhf loop` (with a simulated annotator), `rlhf reward` or `rlhf
pretrain`. Exit status 0: every number and text is the same, bit for bit; 2: some are not (one line on stderr says how
many; what differs is printed before), or the work cannot be done again.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlhf.foundation.errors import InputError
from rlhf.foundation.options import Options, option
from rlhf.foundation.steps import step
from rlhf.inspection.opened_run import OpenedRun

if TYPE_CHECKING:
    from rlhf.whole_loop.recorded_work import Work
    from rlhf.whole_loop.sameness import Sameness


@dataclass
class ReproduceConfig(Options):
    """Options of `rlhf reproduce`."""

    run: str | OpenedRun = option(
        "", help="the directory whose work is done again; also as first word: rlhf reproduce RUN"
    )
    _: KW_ONLY
    output_dir: str | None = option(
        None, help="where it is done again, and stays; default RUN.reproduced, kept only if something differs"
    )
    accept_changes: bool = option(False, help="go on though the model, prompts, rewards or labels changed since")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.run == "":
            raise InputError("rlhf reproduce", got="no run", expected="a directory of recorded work", fix="name it")


@dataclass(frozen=True)
class Reproduction:
    """What came of it: `notes` tell what differs in versions, hardware and inputs, `sameness` how the numbers compare;
    `directory` holds the second making where it was kept; `not_compared` what RUN holds besides."""

    notes: list[str]
    sameness: Sameness
    directory: Path | None
    not_compared: list[str]
    seconds: float


@step(ReproduceConfig)
def reproduce(config: ReproduceConfig) -> Reproduction:
    """Recorded work done again and compared, number by number; what differs beforehand is told on stderr.

    Raises InputError when the work cannot be done again, or its inputs changed (unless accepted).
    """
    from rlhf.whole_loop.recorded_work import work_of
    from rlhf.whole_loop.sameness import Sameness, compare_directories

    root = Path(config.run)
    work = work_of(root)
    _require_inputs(config, work)
    for note in work.notes if is_main() else ():
        print(f"rlhf: {note}", file=sys.stderr, flush=True)
    target = _new_directory(config, root)
    started = time.perf_counter()
    _make(work, target, config)
    seconds = time.perf_counter() - started
    if not is_main():  # of a launcher's processes one compares
        return Reproduction(work.notes, Sameness(), None, [], seconds)
    sameness = compare_directories(root, target, work.parts)
    kept = config.output_dir is not None or not sameness.same
    if not kept:
        shutil.rmtree(target, ignore_errors=True)
    return Reproduction(work.notes, sameness, target if kept else None, work.besides, seconds)


def _new_directory(config: ReproduceConfig, root: Path) -> Path:
    """Where the work is done again. Raises InputError when something is there."""
    beside = root.resolve().with_name(f"{root.resolve().name}.reproduced")
    target = Path(config.output_dir) if config.output_dir else beside
    if is_main() and target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(
            "--output_dir",
            got=f"{target}, not empty",
            expected="a new directory",
            fix="remove it or choose another one",
        )
    return target


def _make(work: Work, target: Path, config: ReproduceConfig) -> None:
    """Do the work; a half of it is not kept, unless a place was named for it."""
    done = False
    try:
        work.make(target, config.quiet)
        done = True
    finally:
        if not done and config.output_dir is None and is_main():
            shutil.rmtree(target, ignore_errors=True)


def is_main() -> bool:
    """Whether this process, of those that a launcher started, compares and tells."""
    return os.environ.get("RANK", "0") == "0"


def _require_inputs(config: ReproduceConfig, work: Work) -> None:
    if work.changed and not config.accept_changes:
        raise InputError(
            os.fspath(config.run),
            got=f"changed since: {'; '.join(work.changed)}",
            expected="the inputs that the work was done with",
            fix="restore them, or see what they make of it with --accept_changes",
        )
