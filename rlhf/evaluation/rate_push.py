"""`rlhf rate push RUN`: a blind packet of samples, into Label Studio or an offline page."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rlhf.foundation.errors import InputError
from rlhf.foundation.memory import of_completions, require_memory
from rlhf.foundation.options import Options, Several, option
from rlhf.foundation.steps import step
from rlhf.inspection.opened_run import OpenedRun

if TYPE_CHECKING:
    from rlhf.foundation.records import Sample
    from rlhf.inspection.rating_packet import Study
    from rlhf.runs.reading import Run


@dataclass
class RatePushConfig(Options):
    """Options of `rlhf rate push`."""

    NEEDS: ClassVar[Mapping[str, str]] = {"per_rung": "ladder"}
    NOT_WITH: ClassVar[Mapping[str, str]] = {
        "num_samples": "ladder",
        "draw": "stored_samples",
        "raters": "page",
        "server_dir": "page",
    }

    run: str | OpenedRun = option("", help="the run directory; also as first word: rlhf rate push RUN")
    output_dir: str = option("rating", help="folder of the study: its key stays here and is needed for the verdict")
    rung: str = option("", help="the rung to compare with the original; default: the last one")
    num_samples: int = option(20, help="samples of each model, at least 2")
    ladder: bool = option(False, help="mix samples of 8 rungs, the original included, instead of two models")
    per_rung: int = option(40, help="samples of each rung with --ladder, at least 2")
    samples: Several[str] = option(
        [], help="further models as NAME=samples.jsonl, such as the negative twin or best-of-n"
    )
    stored_samples: bool = option(
        False, help="use the samples stored with the rungs instead of fresh ones; they must not have chosen the rung"
    )
    draw: int = option(
        0, help="number of the fresh draw, at least 1; 0 takes the first one after those that chose a rung"
    )
    accept_changes: bool = option(
        False, help="go on though the run's records or stored samples changed since they were written"
    )
    page: bool = option(False, help="write an offline page (label.html) instead of tasks in Label Studio")
    raters: Several[str] = option(
        [], help="raters that `rlhf label serve --raters` knows: a project each; default: one"
    )
    title: str = option("", help="title that raters see; it must not name what is compared")
    seed: int = option(0, help="seed of the order of the texts")
    server_dir: str = option("", help="folder of the local server (default: ~/.local/share/rlhf/label-studio)")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.run == "":
            raise InputError("rlhf rate push", got="no run", expected="a run directory", fix="name it first")
        self.raters = [name for text in self.raters for name in text.split(",") if name]
        for name, low in (("num_samples", 2), ("per_rung", 2), ("draw", 0)):
            if getattr(self, name) < low:
                raise InputError(
                    f"--{name}", got=getattr(self, name), expected=f"at least {low}", fix="choose another value"
                )
        if self.ladder and (self.samples or self.rung):
            raise InputError(
                "--ladder", got="--rung or --samples too", expected="the ladder alone", fix="drop the others"
            )


@step(RatePushConfig)
def rate_push(config: RatePushConfig) -> list[str]:
    """A blind packet of samples, into Label Studio or an offline page; where to rate, one line each.

    Done again it sends what is missing.

    Raises InputError.
    """
    from labeling.blind import make_packet
    from labeling.folder import Folder
    from labeling.page_file import page_plan, write_page
    from rlhf.foundation.records import new_uid
    from rlhf.inspection.rating_packet import read_study, require_same_study, write_study
    from rlhf.runs.integrity import read_unchanged

    path = Path(config.output_dir)
    parts = ("run.json", "ladder.json", "samples", "evaluation.json", "human_ladder.json")
    ladder, _ = read_unchanged(Path(config.run), parts, accept=config.accept_changes)
    known = read_study(path) if (path / "study.json").exists() else None
    title = config.title or (known.title if known else f"Blind rating {new_uid()[:8]}")
    if not config.stored_samples and not config.draw:
        config = replace(config, draw=(known.draw if known else None) or next_draw(config))
    study, samples = choose(config, ladder, title)
    folder = Folder(path)
    with folder.in_use():
        require_same_study(path, study)
        plan, tasks = make_packet(folder, samples, title=title, seed=config.seed)
        write_study(path, study)
        if config.page:
            plan = page_plan(plan)
            folder.write_plan(plan)
            write_page(path / "label.html", title=title, screen=plan.screen, tasks=tasks, packet=plan.packet)
            return [f"{len(tasks)} texts -> {path / 'label.html'} (opens without a network)"]
        return send(config, folder)


def next_draw(config: RatePushConfig) -> int:
    """The first draw that no rung was chosen on."""
    from rlhf.inspection.rating_packet import draws_that_chose

    return max(draws_that_chose(Path(config.run)), default=0) + 1


def refuse_used_draw(config: RatePushConfig) -> None:
    """Raises InputError when two models would be rated on the samples that chose the rung."""
    from rlhf.inspection.rating_packet import draws_that_chose

    used = draws_that_chose(Path(config.run))
    if not config.ladder and not config.stored_samples and config.draw in used:
        raise InputError(
            "--draw",
            got=f"{config.draw}, on which the rung may have been chosen",
            expected="samples that chose nothing",
            fix=f"give {max(used) + 1}, or leave it out",
        )


def send(config: RatePushConfig, folder: object) -> list[str]:
    """Push the packet to every rater's project in Label Studio; the addresses."""
    from labeling.campaign import push_all
    from labeling.connection import connect, remembered_url, remembering, server_directory
    from labeling.fetching import check_config
    from labeling.folder import Folder

    assert isinstance(folder, Folder)
    plan, tasks = folder.need_plan(), list(folder.read_tasks().values())
    plan = remembering(plan, config.server_dir)
    folder.write_plan(plan)
    server_dir, url = server_directory(config.server_dir, plan), remembered_url(config.server_dir, plan)
    raters = config.raters or [project.rater for project in plan.projects] or [""]
    push_all(folder, plan, tasks, raters, lambda rater: connect(server_dir, rater=rater, url=url), check=check_config)
    projects = folder.need_plan().projects
    return [f"{p.rater or 'everyone'}: {p.url}/projects/{p.id}/data?labeling=1" for p in projects]


def choose(config: RatePushConfig, ladder: Run, title: str) -> tuple[Study, list[Sample]]:
    """The study and the samples that go out. Raises InputError."""
    from rlhf.evaluation.fresh_samples import original_rung
    from rlhf.foundation.records import read_samples
    from rlhf.inspection.rating_packet import Study, different_rows, ladder_rungs
    from rlhf.runs.reading import sqrt_kl

    refuse_used_draw(config)
    if not ladder.rungs:
        raise InputError(
            os.fspath(config.run), got="no rungs", expected="a ladder", fix="let the run reach its first rung"
        )
    original = original_rung(ladder)
    if config.ladder:
        rungs = ladder_rungs(ladder.rungs)
        places = {rung.name: sqrt_kl(rung.kl_per_completion) for rung in rungs}
        count = config.per_rung
    else:
        places, count = {}, config.num_samples
    names = list(places) or [original, config.rung or ladder.rungs[-1].name]
    if not {*names} <= {rung.name for rung in ladder.rungs} or len({*names}) < len(names):
        raise InputError(
            "--rung",
            got=names[-1],
            expected=f"one of {', '.join(rung.name for rung in ladder.rungs if rung.name != original)}",
            fix="choose one of the ladder's",
        )
    further: dict[str, list[Sample]] = {}
    for given in config.samples:
        name, found, file = given.partition("=")
        if not found or not name or name in {*names, *further}:
            raise InputError("--samples", got=given, expected="NAME=samples.jsonl, a new name", fix="mend it")
        further[name] = read_samples(Path(file))
    rows = {**rung_samples(config, ladder, names, count * len(names)), **further}
    own = {name: different_rows({name: taken}, count) for name, taken in further.items()}
    chosen = different_rows({name: rows[name] for name in names}, count)
    drawn = None if config.stored_samples else config.draw
    study = Study("ladder" if config.ladder else "models", original, os.fspath(config.run), title, places, drawn)
    return study, [*chosen, *(sample for taken in own.values() for sample in taken)]


def rung_samples(config: RatePushConfig, ladder: Run, names: list[str], count: int) -> dict[str, list[Sample]]:
    """Samples of the named rungs: stored, or fresh ones that took no part in choosing."""
    from rlhf.runs.reading import measured_prompts, read_ladder_samples

    if config.stored_samples:
        stored = read_ladder_samples(ladder)
        missing = [name for name in names if name not in stored]
        if missing:
            raise InputError(missing[0], got="no stored samples", expected="samples", fix="drop --stored_samples")
        return {name: stored[name] for name in names}
    from rlhf.evaluation.fresh_samples import draw_rung

    name = "per_rung" if config.ladder else "num_samples"
    require_memory(of_completions(count, ladder.completion_length), {name: count})
    known = measured_prompts(ladder)
    prompts = [known[i % len(known)] for i in range(count)]
    return {name: draw_rung(ladder, name, prompts, [], draw=config.draw).samples for name in names}
