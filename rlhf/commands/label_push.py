"""`rlhf label push`: samples become tasks of Label Studio, each exactly once, whatever breaks on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from labeling.campaign import plan_tasks, push_all
from labeling.connection import connect, default_directory
from labeling.folder import Folder
from labeling.pull import check_config
from labeling.push import CHUNK, SETTLE_SECONDS, Pushed
from rlhf.commands.label_output import listed_counts
from rlhf.commands.label_tasks import TaskConfig, make_tasks
from rlhf.foundation.errors import InputError
from rlhf.foundation.progress import progress_bar
from rlhf.foundation.terminal import say, shown
from rlhf.option_fields import check_ranges
from rlhf.options import option, parse


@dataclass
class PushConfig(TaskConfig):
    """Options of `rlhf label push`: those that make tasks, and those that send them."""

    raters: list[str] = option([], help="raters that `rlhf label serve --raters` knows: a project each; default: one")
    chunk: int = option(CHUNK, help="tasks in one import, 1 to 1000")
    settle_seconds: float = option(
        SETTLE_SECONDS, help="seconds to wait for an import that was never answered, 0 to 3600"
    )
    server_dir: str = option("", help="folder of the local server (default: ~/.local/share/rlhf/label-studio)")
    timeout: float = option(60.0, help="seconds to wait for an answer of the server, 0.1 to 3600")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.raters = [name for text in self.raters for name in text.split(",") if name]
        check_ranges(self, [("chunk", 1, 1000), ("timeout", 0.1, 3600), ("settle_seconds", 0, 3600)])
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


def run(config: PushConfig) -> PushSummary:
    """Push the samples; run again it sends only what is missing. Raises InputError."""
    folder = Folder(Path(config.output_dir))
    server_dir = Path(config.server_dir) if config.server_dir else default_directory()
    new, screen, cleaning, version = make_tasks(config)
    with folder.in_use():
        known = folder.read_plan()
        raters = config.raters or [project.rater for project in (known.projects if known else ())] or [""]
        # Connected before anything is written, and before a bar stands on the screen.
        studios = {rater: connect(server_dir, rater=rater, timeout=config.timeout) for rater in raters}
        plan, tasks = plan_tasks(folder, screen, config.title, new)
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


def main(argv: list[str]) -> None:
    """Parse the options, push, and say what was sent, changed and refused."""
    config = parse(PushConfig, argv, prog="rlhf label push", description=(__doc__ or "").split(": ", 1)[1])
    summary = run(config)
    for rater, one in summary.pushed.items():
        extra = listed_counts(
            {
                "twins removed": one.twins_removed,
                "twins left, both labelled": one.twins_labelled,
                "imports without an answer": one.uncertain_imports,
            }
        )
        name = f"{shown(rater)}: " if rater else ""
        say(f"{name}{one.created} tasks sent, {one.present} were there{'; ' + extra if extra else ''}")
    if said := listed_counts(summary.cleaning):
        say(f"cleaned: {said}")
    print("label at")
    say("\n".join(f"  {line}" for line in summary.addresses))
    say(f"then: rlhf label pull --output_dir {config.output_dir}")
