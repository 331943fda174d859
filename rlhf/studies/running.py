"""Doing the stages that are not done: one after another or side by side, each failure told and kept, time left told."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, NamedTuple

from rlhf.foundation.digests import write_sealed
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_object
from rlhf.studies.plan import KINDS, Stage
from rlhf.studies.stages import do, is_done

# Seconds on two cores with the demo's recipes; a study's own are used once a stage of the kind is done.
ROUGHLY = {"model": 35.0, "pool": 6.0, "labels": 2.0, "reward": 15.0, "cell": 90.0}


class Outcome(NamedTuple):
    """Of one stage: the seconds it took, and why it failed, if it did."""

    stage: Stage
    seconds: float
    error: str | None


@dataclass
class Record:
    """study.json: the options, the seconds of each stage by its place, and what failed."""

    path: Path
    config: Mapping[str, Any]
    seconds: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path, config: Mapping[str, Any]) -> Record:
        """With the seconds of earlier calls."""
        then = read_object(path, "seconds") if path.exists() else {"seconds": {}}
        return cls(path, config, dict(then["seconds"]))

    def note(self, outcome: Outcome) -> None:
        """Keep an outcome; the file is replaced at once."""
        place = outcome.stage.place
        if outcome.error is None:
            self.seconds[place] = round(self.seconds.get(place, 0.0) + outcome.seconds, 2)
        else:
            self.failed[place] = outcome.error
        write_sealed(self.path, {"config": dict(self.config), "seconds": self.seconds, "failed": self.failed})

    def left(self, stages: Sequence[Stage], jobs: int) -> float:
        """About how many seconds these stages take."""
        return sum(self._of_kind(stage.kind) for stage in stages) / jobs

    def _of_kind(self, kind: str) -> float:
        """The mean of the kind's own, else a rough figure."""
        known = [s for place, s in self.seconds.items() if _kind_of(place) == kind]
        return sum(known) / len(known) if known else ROUGHLY[kind]


def _kind_of(place: str) -> str:
    return "cell" if place.startswith("cells/") else place.split("/")[1].rsplit("-", 1)[0]


def run_stages(root: Path, stages: Sequence[Stage], record: Record, *, jobs: int, quiet: bool) -> None:
    """Do what is not done, kind by kind. Failures do not stop the others; what needs a failed one is passed over."""
    todo = [stage for stage in stages if not is_done(root, stage)]
    for kind in KINDS:
        own = [stage for stage in todo if stage.kind == kind]
        ready = [stage for stage in own if all(is_done(root, one) for one in stage.needs.values())]
        for stage in (one for one in own if one not in ready):
            record.note(Outcome(stage, 0.0, "what it needs was not made"))
            todo.remove(stage)
        for outcome in _outcomes(root, ready, jobs):
            record.note(outcome)
            todo.remove(outcome.stage)
            if not quiet:
                print(_told(outcome, len(stages) - len(todo), len(stages), record.left(todo, jobs)), flush=True)


def _outcomes(root: Path, stages: Sequence[Stage], jobs: int) -> Iterator[Outcome]:
    if jobs == 1 or len(stages) < 2:
        yield from (attempt(root, stage) for stage in stages)
        return
    with workers(jobs) as pool:
        given = {pool.submit(attempt, root, stage): stage for stage in stages}
        for done in as_completed(given):
            try:
                yield done.result()
            except BrokenProcessPool:
                yield Outcome(given[done], 0.0, "its process ended (killed, or out of memory)")


@contextmanager
def workers(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Processes for `jobs` stages at once. Where the block is left by an exception, as when the study is stopped, they
    end in the midst of their work, and so they do with their parent."""
    spawned = multiprocessing.get_context("spawn")
    stopped = spawned.Event()
    with ProcessPoolExecutor(jobs, spawned, initializer=_prepare, initargs=(stopped,)) as pool:
        try:
            yield pool
        except BaseException:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _prepare(stopped: Event) -> None:
    """A worker has one thread, as every worker beside it, and outlives neither the block nor its parent: who gives the
    command again would find its cell in use."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    for wait in (stopped.wait, parent.join):
        threading.Thread(target=_end_after, args=(wait,), daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["OMP_WAIT_POLICY"] = "passive"
    import torch

    torch.set_num_threads(1)


def _end_after(wait: Callable[[], Any]) -> None:
    wait()
    os._exit(1)


def attempt(root: Path, stage: Stage) -> Outcome:
    """Do one stage; what it raises becomes its outcome, but for Ctrl-C."""
    import contextlib
    import io

    started = time.perf_counter()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            do(root, stage)
    except InputError as error:
        return Outcome(stage, time.perf_counter() - started, str(error))
    except Exception as error:
        return Outcome(stage, time.perf_counter() - started, f"{type(error).__name__}: {error}")
    return Outcome(stage, time.perf_counter() - started, None)


def _told(outcome: Outcome, done: int, total: int, left: float) -> str:
    what = outcome.stage.name or outcome.stage.place
    state = f"FAILED: {outcome.error}" if outcome.error else f"{outcome.seconds:.0f} s"
    return f"[{done}/{total}] {outcome.stage.kind} {what}: {state}; about {duration(left)} left"


def duration(seconds: float) -> str:
    """In words: seconds below two minutes, else minutes."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
