"""`rlhf label annotate`: annotators by rule answer as users of the real Label Studio; nobody need be there."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from labeling.connection import connect, remembered_url, server_directory
from labeling.folder import Folder
from labeling.server_raters import annotate_as, simulated_comparisons, simulated_judgements
from rlhf.foundation.errors import InputError
from rlhf.foundation.options import Options, Several, check_ranges, option
from rlhf.foundation.progress import progress_bar
from rlhf.foundation.steps import step


@dataclass
class AnnotateConfig(Options):
    """Options of `rlhf label annotate`."""

    output_dir: str = option(help="folder of `rlhf label push`; each of its projects gets one annotator")
    gold: Literal["embedded", "lexicon"] = option(
        "embedded", help="rule that the annotators follow, as in `rlhf label simulate`"
    )
    noise: Several[float] = option(
        [0.1], help="share of wrong answers, 0 to 1, exact: one for all projects or one for each, in their order"
    )
    server_dir: str = option("", help="folder of the local server (default: the one of the push)")
    seed: int = option(0, help="seed of what is answered wrongly")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, [("noise", 0, 1)])


@step(AnnotateConfig)
def annotate(config: AnnotateConfig) -> dict[str, int]:
    """Annotators by rule answer every task of every project; how many answers by rater ("" where nobody was named).

    Raises InputError. Run again it adds nothing: the server refuses an annotation that it has.
    """
    from rewards.gold import GoldRule

    folder = Folder(Path(config.output_dir))
    plan, tasks = folder.need_plan(), folder.read_tasks()
    if not plan.projects:
        raise InputError(
            config.output_dir, got="no project", expected="a folder that `rlhf label push` sent", fix="push it first"
        )
    server_dir, url = server_directory(config.server_dir, plan), remembered_url(config.server_dir, plan)
    studios = {project.rater: connect(server_dir, rater=project.rater, url=url) for project in plan.projects}
    if len(config.noise) not in (1, len(plan.projects)):
        raise InputError(
            "--noise",
            got=f"{len(config.noise)} values",
            expected=f"1 or {len(plan.projects)}, one for each project",
            fix="give one share for all or one for each",
        )
    rule = GoldRule(check_lines=config.gold == "embedded")
    texts = [text for task in tasks.values() for text in (task.text, task.second) if text is not None]
    asked = [task.prompt for task in tasks.values() for text in (task.text, task.second) if text is not None]
    rule.require_known(texts, asked, config.output_dir)
    if ignorance := rule.ignorance(texts, asked, "--gold lexicon"):
        print(f"rlhf: warning: {ignorance}", file=sys.stderr)
    judge, score = functools.cache(rule.label), functools.cache(rule.score)
    done: dict[str, int] = {}
    with progress_bar("annotate", "answer", total=len(tasks) * len(plan.projects), quiet=config.quiet) as bar:
        for place, project in enumerate(plan.projects):
            name, noise = project.rater or "simulated", config.noise[place % len(config.noise)]
            if plan.screen.kind == "comparison":
                answers = simulated_comparisons(tasks, score, annotator=name, noise=noise, seed=config.seed)
            else:
                answers = simulated_judgements(tasks, judge, annotator=name, noise=noise, seed=config.seed)
            done[project.rater] = annotate_as(
                studios[project.rater], project, plan, answers, progress=lambda n: bar.update() and None
            )
    return done
