"""`rlhf label page`: one offline HTML file to label in, and the labels out of the files that people send back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from labeling.answers import collect
from labeling.campaign import plan_tasks
from labeling.folder import Folder
from labeling.page import page_plan, write_page
from labeling.returned import Returned
from rlhf.commands.label_output import listed_counts, print_notes, tally
from rlhf.commands.label_tasks import TaskConfig, make_tasks
from rlhf.foundation.errors import InputError
from rlhf.foundation.terminal import say, shown
from rlhf.options import option, parse


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
        "max_characters": "answers",
        "seed": "answers",
    }

    samples: str = option("", help="samples.jsonl to make a page of; leave it out to collect --answers")
    answers: list[str] = option([], help="files that the page saved: their answers become labels")

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.samples) == bool(self.answers):
            raise InputError(
                "rlhf label page",
                got="both --samples and --answers" if self.samples else "neither --samples nor --answers",
                expected="one of them",
                fix="--samples FILE makes a page, --answers FILE takes in what came back",
            )


def make_page(config: PageConfig) -> tuple[Path, int, Counter[str]]:
    """Write `label.html` into the folder; its path, the number of tasks, what cleaning changed. Raises InputError."""
    folder = Folder(Path(config.output_dir))
    new, screen, cleaning, _ = make_tasks(config)
    with folder.in_use():
        plan, tasks = plan_tasks(folder, screen, config.title, new)
        plan = page_plan(plan)
        folder.write_plan(plan)
        if any(task.priority is not None for task in tasks):
            tasks = sorted(tasks, key=lambda task: (task.priority is None, task.priority or 0.0))
        path = folder.path / "label.html"
        write_page(path, title=plan.title, screen=plan.screen, tasks=tasks, packet=plan.packet)
    return path, len(tasks), cleaning


def run(config: PageConfig) -> Returned | Path:
    """Make the page (its path), or collect answers (what came back). Raises InputError."""
    if config.samples:
        return make_page(config)[0]
    folder = Folder(Path(config.output_dir))
    with folder.in_use():
        return collect(folder, [Path(name) for name in config.answers])


def main(argv: list[str]) -> None:
    """Parse the options, make the page or collect answers, and say what happened."""
    config = parse(PageConfig, argv, prog="rlhf label page", description=(__doc__ or "").split(": ", 1)[1])
    if config.samples:
        path, count, cleaning = make_page(config)
        say(f"{count} tasks -> {shown(path)} (opens without a network)")
        if said := listed_counts(cleaning):
            say(f"cleaned: {said}")
        say(f"then: rlhf label page --output_dir {config.output_dir} --answers answers-NAME.json")
        return
    returned = run(config)
    assert isinstance(returned, Returned)
    name = "comparisons.jsonl" if returned.comparisons else "labels.jsonl"
    say(f"{tally(returned.labels or returned.comparisons)} -> {shown(Path(config.output_dir) / name)}")
    say(f"answers: {returned.annotations}; {listed_counts(returned.counts) or 'none'}")
    print_notes(returned.notes)
