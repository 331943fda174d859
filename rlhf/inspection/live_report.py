"""The report of runs that go on: made anew, in memory only, where somebody asks for it and a run has grown.

Only what runs have written is read: nothing is evaluated while they are at work.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from rlhf.foundation.errors import InputError
from rlhf.inspection.charts import read_story
from rlhf.inspection.figures import Story
from rlhf.inspection.report import PAGE, breaks, report_page, templates
from rlhf.inspection.time_left import duration, progress_of, seconds_an_iteration
from rlhf.runs.reading import Run, read_run, run_name

GROWING = ("run.json", "metrics.jsonl", "ladder.json", "evaluation.json")
IDLE = 60.0  # seconds without an iteration, and as many times an iteration's time, before it is told
IDLE_TIMES = 5


class LiveReport:
    """The page of one or several runs, the newest that could be made."""

    def __init__(self, directories: Sequence[Path]) -> None:
        self.directories = directories
        self._lock = threading.Lock()
        self._version, self._page = "", ""
        self.shown_last = False

    @property
    def ended(self) -> bool:
        """Whether every run says that it is at work no longer."""
        return not any(is_running(directory) for directory in self.directories)

    @property
    def version(self) -> str:
        """Another one whenever a run has written something, or has been idle for long."""
        facts = [_facts(directory / name) for directory in self.directories for name in GROWING]
        return hashlib.sha256(repr([facts, self.idle()]).encode()).hexdigest()[:16]

    def page(self) -> str:
        """HTML of the present version; the one before where a file is just being written."""
        with self._lock:
            version, ended = self.version, self.ended
            if version != self._version or not self._page:
                try:
                    self._page, self._version = self._made("" if ended else version), version
                except InputError as error:
                    self._page = self._page if self._version else self._waiting(version, str(error))
            self.shown_last |= ended and self._version == version
            return self._page

    def progress(self) -> list[str]:
        """Where each run stands, in a line; a run without an iteration is left out."""
        told = []
        for directory in self.directories:
            try:
                run = read_run(directory, tell=False, tell_torn=False)
            except InputError:
                continue
            told.append(self._standing(run))
        return told

    def idle(self) -> list[str]:
        """Runs that say they are at work but have not written for long."""
        return [run_name(directory) for directory in self.directories if _idle_seconds(directory) is not None]

    def _made(self, live: str) -> str:
        stories = [read_story(directory, tell=False) for directory in self.directories]
        notices = [*map(self._standing, (s.run for s in stories)), *_untold_rungs(stories)]
        return report_page(stories, [*notices, *(told for s in stories for told in breaks(s.run))], live=live)

    def _standing(self, run: Run) -> str:
        if not run.running:
            return f"{run.name}: {run.info.get('status')}, {run.info.get('stop_reason')}"
        idle = _idle_seconds(run.directory)
        stopped = f"; no iteration for {duration(idle)}: it may have been stopped" if idle is not None else ""
        return f"{run.name}: {progress_of(run).text()}{stopped}"

    def _waiting(self, version: str, told: str) -> str:
        style = (PAGE / "report.css").read_text(encoding="utf-8")
        title = " and ".join(map(run_name, self.directories))
        return templates().get_template("waiting.html").render(title=title, told=told, style=style, live=version)


def is_running(directory: Path) -> bool:
    """Whether run.json says so; a file that cannot be read just now says nothing else."""
    try:
        return bool(json.loads((directory / "run.json").read_bytes()).get("status") == "running")
    except (OSError, ValueError, AttributeError):
        return True


def _facts(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _idle_seconds(directory: Path) -> float | None:
    """Seconds since a run wrote its last iteration, where they are many for it."""
    try:
        since = time.time() - (directory / "metrics.jsonl").stat().st_mtime
        if since < IDLE or not is_running(directory):
            return None
        known = read_run(directory, tell=False, tell_torn=False)
    except (OSError, InputError):
        return None
    return since if since > IDLE_TIMES * seconds_an_iteration(known) else None


def _untold_rungs(stories: Sequence[Story]) -> list[str]:
    """What is not known of a run that nobody has evaluated yet."""
    silent = [story.run.name for story in stories if story.evaluation is None]
    word = "not evaluated yet, so only the reward it is trained on is shown"
    return [f"{name}: {word}." for name in silent]
