"""`rlhf label push`: samples become tasks of Label Studio, each exactly once, whatever breaks on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from labeling.campaign import plan_tasks, push_all
from labeling.connection import connect, remembered_url, remembering, server_directory
from labeling.critiques import write_reasons
from labeling.fetching import check_config
from labeling.folder import Folder
from labeling.reviewing import reviewers_in
from labeling.second_round import FirstRound, read_first, read_first_round, second_screen, texts_of, write_first
from labeling.sending import CHUNK, SETTLE_SECONDS, Pushed
from labeling.steps.reasons import reasons_of
from labeling.steps.scores import Scorer
from labeling.steps.tasks import MadeTasks, TaskConfig, make_tasks
from rlhf.foundation.errors import InputError
from rlhf.foundation.given_records import Samples
from rlhf.foundation.options import Several, check_ranges, option
from rlhf.foundation.progress import progress_bar
from rlhf.foundation.steps import step


@dataclass
class PushConfig(TaskConfig):
    """Options of `rlhf label push`: those that make tasks, and those that send them."""

    NEEDS: ClassVar[Mapping[str, str]] = {**TaskConfig.NEEDS, "reasons": "first_answers", "first_answers": "reasons"}
    NOT_WITH: ClassVar[Mapping[str, str]] = {
        **TaskConfig.NOT_WITH,
        "kind": "first_answers",
        "question": "first_answers",
        "prompt_format": "first_answers",
        "mix_corpus": "first_answers",
        "select": "first_answers",
        "num_tasks": "first_answers",
        "skip_labelled": "first_answers",
        "raters": "first_answers",
        "reviewer": "first_answers",
    }

    samples: Samples = option("", help="samples.jsonl to be labelled; leave it out with --first_answers")
    _: KW_ONLY
    raters: Several[str] = option(
        [], help="raters that `rlhf label serve --raters` knows: a project each; default: one"
    )
    reviewer: Several[str] = option(
        [], help="raters besides, whose answers the others are measured by and nothing is trained on"
    )
    first_answers: str = option(
        "", help="folder whose raters answered blind: their tasks go up again, each with that answer and --reasons"
    )
    reasons: str | Scorer = option(
        "", help="reward whose reasons (score, words for and against) stand beside the tasks"
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
        if bool(self.samples) == bool(self.first_answers):
            raise InputError(
                "rlhf label push",
                got="both --samples and --first_answers" if self.samples else "neither --samples nor --first_answers",
                expected="one of them",
                fix="--samples FILE is a first round, --first_answers FOLDER a second one with --reasons",
            )
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
    first = read_first_round(Folder(Path(config.first_answers))) if config.first_answers else None
    made = (
        make_tasks(config)
        if first is None
        else MadeTasks(list(first.tasks.values()), second_screen(first.plan.screen), Counter(), "")
    )
    with folder.in_use():
        known = folder.read_plan()
        origin = known or (first.plan if first else None)
        server_dir, url = server_directory(config.server_dir, origin), remembered_url(config.server_dir, origin)
        raters = config.raters or [project.rater for project in (known.projects if known else ())] or [""]
        raters = list(first.choices) if first else raters
        # Connected before anything is written, and before a bar stands on the screen.
        studios = {rater: connect(server_dir, rater=rater, timeout=config.timeout, url=url) for rater in raters}
        reasons = _second_round(config, folder, first) if first else None
        title = f"{first.plan.title[:32]} again" if first and config.title == TaskConfig.title else config.title
        plan, tasks = plan_tasks(folder, made.screen, title, made.tasks)
        if origin:
            plan = replace(plan, server_dir=origin.server_dir, server_url=origin.server_url)
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
                scores_version=made.version,
                chunk=config.chunk,
                settle_seconds=config.settle_seconds,
                reasons=reasons,
                progress=progress,
            )
        projects = folder.need_plan().projects
    addresses = [f"{p.rater or 'everyone'}: {p.url}/projects/{p.id}/data?labeling=1" for p in projects]
    return PushSummary(len(tasks), made.counts, pushed, addresses)


def _second_round(config: PushConfig, folder: Folder, first: FirstRound) -> dict[str, dict[str, str]]:
    """What stands beside each rater's tasks; the first answers and the model's leanings are kept in the folder.

    A first answer that went up before stays what it was.
    """
    before = read_first(folder.path)
    choices = {rater: {**mine, **before.get(rater, {})} for rater, mine in first.choices.items()}
    reasons = reasons_of(config.reasons, list(first.tasks.values()), quiet=config.quiet)
    write_reasons(folder.path, reasons)
    write_first(folder.path, choices)
    return texts_of(first._replace(choices=choices), reasons)
