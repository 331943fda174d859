"""Every chart of a run under a name, for whoever wants one of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rlhf.inspection.curves import training_charts
from rlhf.inspection.evaluation import stored_evaluation
from rlhf.inspection.figures import Chart, Story, against_kl, human_chart
from rlhf.inspection.human_ladder import read_human_ladder
from rlhf.inspection.replicates import joint_curves
from rlhf.runs.reading import read_run


def rewards_of(stories: Sequence[Story]) -> list[str]:
    """The proxy and every gold and quality that one of the runs was scored by."""
    scored = [story.evaluation for story in stories if story.evaluation]
    return ["proxy", *dict.fromkeys(name for e in scored for name in (*e.golds, *e.qualities))]


def charts_along_kl(stories: Sequence[Story]) -> list[Chart]:
    """Rewards, and blind ratings where there are some, along √KL."""
    rewards = rewards_of(stories)
    return [*against_kl(stories, rewards, joint_curves(stories, rewards)), *human_chart(stories)]


def named_charts(*directories: Path) -> dict[str, Chart]:
    """The charts of a run, or of several drawn over each other, by name: `reward` (by iteration), `proxy along KL`.

    Nothing is written. Raises InputError when a directory is no run, or before its first iteration.
    """
    stories = [read_story(directory) for directory in directories]
    along = {chart.title[0].lower() + chart.title[1:]: chart for chart in charts_along_kl(stories)}
    return {**{chart.id: chart for chart in training_charts(stories)}, **along}


def read_story(directory: Path, *, tell: bool = True) -> Story:
    """A run with what was found of it so far; what is torn or damaged is told on stderr, if `tell`."""
    run = read_run(directory, tell=tell, tell_torn=tell)
    return Story(run, stored_evaluation(run), read_human_ladder(directory / "human_ladder.json"))
