"""`rlhf label page`: one offline HTML file to label in, and the labels out of the files that people send back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import ClassVar

from labeling.answers import collect
from labeling.campaign import plan_tasks
from labeling.critiques import write_reasons
from labeling.folder import Folder
from labeling.page_file import page_plan, write_page
from labeling.returned import Returned
from labeling.reviewing import reviewers_in
from labeling.steps.reasons import reasons_of
from labeling.steps.scores import Scorer
from labeling.steps.tasks import TaskConfig, make_tasks
from rlhf.foundation.errors import InputError
from rlhf.foundation.given_records import Samples
from rlhf.foundation.options import Several, option
from rlhf.foundation.steps import step


@dataclass
class PageConfig(TaskConfig):
    """Options of `rlhf label page`: those that make tasks, and the files sent back."""

    NOT_WITH: ClassVar[Mapping[str, str]] = {
        **TaskConfig.NOT_WITH,
        "kind": "answers",
        "title": "answers",
        "question": "answers",
        "prompt_format": "answers",
        "mix_corpus": "answers",
        "select": "answers",
        "num_tasks": "answers",
        "skip_labelled": "answers",
        "reasons": "answers",
        "max_characters": "answers",
        "seed": "answers",
    }

    NEEDS: ClassVar[Mapping[str, str]] = {**TaskConfig.NEEDS, "reviewer": "answers"}

    samples: Samples = option("", help="samples.jsonl to make a page of; leave it out to collect --answers")
    _: KW_ONLY
    reasons: str | Scorer = option(
        "", help="reward whose reasons (words for and against) the page shows after a blind first answer; both are kept"
    )
    answers: Several[str] = option([], help="files that the page saved: their answers become labels")
    reviewer: Several[str] = option(
        [], help="whose answers the others are measured by: kept in a file of their own, never trained on; remembered"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.reviewer = reviewers_in(self.reviewer)
        if bool(self.samples) == bool(self.answers):
            raise InputError(
                "rlhf label page",
                got="both --samples and --answers" if self.samples else "neither --samples nor --answers",
                expected="one of them",
                fix="--samples FILE makes a page, --answers FILE takes in what came back",
            )


@dataclass(frozen=True)
class Paged:
    """A page that was made, its number of tasks and what cleaning changed; or the answers that came back."""

    path: Path | None = None
    tasks: int = 0
    cleaning: Counter[str] = field(default_factory=Counter)
    returned: Returned | None = None


@step(PageConfig)
def page(config: PageConfig) -> Paged:
    """One offline HTML file to label samples in; or, of `answers` files, the labels that people sent back.

    The labels are written into the folder (labels.jsonl or comparisons.jsonl). Raises InputError.
    """
    if config.samples:
        return _made(config)
    folder = Folder(Path(config.output_dir))
    with folder.in_use():
        return Paged(returned=collect(folder, [Path(name) for name in config.answers], reviewers=config.reviewer))


def _made(config: PageConfig) -> Paged:
    """Write `label.html` into the folder."""
    folder = Folder(Path(config.output_dir))
    new, screen, cleaning, _ = make_tasks(config)
    with folder.in_use():
        every = {task.uid: task for task in new} | folder.read_tasks()
        reasons = reasons_of(config.reasons, list(every.values()), quiet=config.quiet) if config.reasons else []
        plan, tasks = plan_tasks(folder, screen, config.title, new)
        plan = page_plan(plan)
        folder.write_plan(plan)
        if any(task.priority is not None for task in tasks):
            tasks = sorted(tasks, key=lambda task: (task.priority is None, task.priority or 0.0))
        path = folder.path / "label.html"
        if reasons:
            write_reasons(folder.path, reasons)
        write_page(path, title=plan.title, screen=plan.screen, tasks=tasks, packet=plan.packet, reasons=reasons)
    return Paged(path, len(tasks), cleaning)
