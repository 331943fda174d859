"""`rlhf label push`: samples become tasks of Label Studio, each exactly once, whatever breaks on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

from labeling.campaign import plan_tasks, push_all
from labeling.connection import connect, remembered_url, remembering, server_directory
from labeling.fetching import check_config
from labeling.folder import Folder
from labeling.reviewing import reviewers_in
from labeling.sending import CHUNK, SETTLE_SECONDS, Pushed
from labeling.steps.tasks import TaskConfig, make_tasks
from rlhf.foundation.errors import InputError
from rlhf.foundation.options import Several, check_ranges, option
from rlhf.foundation.progress import progress_bar
from rlhf.foundation.steps import step


@dataclass
class PushConfig(TaskConfig):
    """Options of `rlhf label push`: those that make tasks, and those that send them."""

    _: KW_ONLY
    raters: Several[str] = option(
        [], help="raters that `rlhf label serve --raters` knows: a project each; default: one"
    )
    reviewer: Several[str] = option(
        [], help="raters besides, whose answers the others are measured by and nothing is trained on"
    )
    chunk: int = option(CHUNK, help="tasks in one import, 1 to 1000")
    settle_seconds: float = option(
        SETTLE_SECONDS, help="seconds to wait for an import that was never answered, 0 to 3600"
    )
    server_dir: str = option(
        "", help="folder of the local server (default: that of the last push, else ~/.local/share/rlhf/label-studio)"
    )
    timeout: float = option(60.0, help="seconds to wait for an answer of the server, 0.1 to 3600")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.raters = [name for text in self.raters for name in text.split(",") if name]
        self.reviewer = reviewers_in(self.reviewer)
        check_ranges(self, [("chunk", 1, 1000), ("timeout", 0.1, 3600), ("settle_seconds", 0, 3600)])
        if self.reviewer and not self.raters:
            raise InputError(
                "--reviewer", got="no --raters", expected="both", fix="name the raters whom the reviewer measures"
            )
        self.raters = list(dict.fromkeys((*self.raters, *self.reviewer)))
        if self.raters and len(self.title) > 38:
            raise InputError(
                "--title", got=f"{len(self.title)} characters", expected="at most 38 with --raters", fix="shorten it"
            )


@dataclass
class PushSummary:
    """What a push did: tasks in the folder, what cleaning changed or refused, and each rater's project."""

    tasks: int
    cleaning: Counter[str] = field(default_factory=Counter)
    pushed: Mapping[str, Pushed] = field(default_factory=dict)
    addresses: list[str] = field(default_factory=list)


@step(PushConfig)
def push(config: PushConfig) -> PushSummary:
    """Samples become tasks of Label Studio; done again it sends only what is missing. Raises InputError."""
    folder = Folder(Path(config.output_dir))
    new, screen, cleaning, version = make_tasks(config)
    with folder.in_use():
        known = folder.read_plan()
        server_dir, url = server_directory(config.server_dir, known), remembered_url(config.server_dir, known)
        raters = config.raters or [project.rater for project in (known.projects if known else ())] or [""]
        # Connected before anything is written, and before a bar stands on the screen.
        studios = {rater: connect(server_dir, rater=rater, timeout=config.timeout, url=url) for rater in raters}
        plan, tasks = plan_tasks(folder, screen, config.title, new)
        plan = remembering(plan, config.server_dir)
        folder.write_plan(plan)
        plan = folder.with_reviewers(plan, config.reviewer)
        with progress_bar("push", "task", total=len(tasks) * len(raters), quiet=config.quiet) as bar:
            done: dict[str, int] = {}

            def progress(rater: str, n: int) -> None:
                bar.update(n - done.get(rater, 0))
                done[rater] = n

            pushed = push_all(
                folder,
                plan,
                tasks,
                raters,
                studios.__getitem__,
                check=check_config,
                scores_version=version,
                chunk=config.chunk,
                settle_seconds=config.settle_seconds,
                progress=progress,
            )
        projects = folder.need_plan().projects
    addresses = [f"{p.rater or 'everyone'}: {p.url}/projects/{p.id}/data?labeling=1" for p in projects]
    return PushSummary(len(tasks), cleaning, pushed, addresses)
