"""The report: one HTML file that opens from disk without a network and tells the story of a run, or of several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from rlhf.foundation.files import write_text
from rlhf.inspection.charts import charts_along_kl
from rlhf.inspection.curves import training_charts
from rlhf.inspection.display import script_json
from rlhf.inspection.evaluation import Evaluation, evaluate_run, stored_evaluation
from rlhf.inspection.figures import Chart, Story
from rlhf.inspection.human_ladder import read_human_ladder
from rlhf.inspection.page_data import page_data
from rlhf.inspection.rating_packet import read_verdicts
from rlhf.inspection.replicates import joint_onsets
from rlhf.inspection.report_tables import meaning_of, story_facts
from rlhf.runs.reading import Run, read_run

PAGE = Path(__file__).parent


def build_report(
    run_dir: Path, output: Path | None = None, *, others: Sequence[Path] = (), notices: Sequence[str] = ()
) -> Path:
    """Write the report of `run_dir` (default RUN/report.html) and return its path; `others` are drawn over it.

    `notices` stand on top, before those of the report itself.

    A ladder that was not evaluated yet is evaluated from its stored samples first. Raises InputError when a
    directory is no run or holds nothing to show.
    """
    stories, told = [], list(notices)
    for directory in (run_dir, *others):
        run = read_run(directory)
        evaluation, notice = current_evaluation(run)
        stories.append(Story(run, evaluation, read_human_ladder(directory / "human_ladder.json"), verdicts(directory)))
        told += [*([notice] if notice else []), *breaks(run), *accepted(run, evaluation)]
    target = output or run_dir / "report.html"
    write_text(target, report_page(stories, told))
    return target


def report_page(stories: Sequence[Story], notices: Sequence[str], *, live: str = "") -> str:
    """The report as HTML; `live` is the version of a page that asks its server for the next one."""
    from plotly.offline import get_plotlyjs

    along, curves = charts_along_kl(stories), training_charts(stories)
    return (
        templates()
        .get_template("report.html")
        .render(
            title=" and ".join(story.run.name for story in stories),
            stories=[story_facts(story) for story in stories],
            notices=notices,
            together=joint_onsets(stories),
            along=[chart_row(chart) for chart in along],
            curves=[chart_row(chart) for chart in curves],
            style=(PAGE / "report.css").read_text(encoding="utf-8"),
            script=(PAGE / "report.js").read_text(encoding="utf-8"),
            plotly=get_plotlyjs(),
            data=script_json(page_data(stories, [*along, *curves])),
            live=live,
        )
    )


def templates() -> Environment:
    """The pages of this folder; a name that a page is not given is a fault."""
    return Environment(loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined)


def verdicts(directory: Path) -> tuple[str, ...]:
    """What blind ratings of the run's rungs found."""
    return tuple(f"Blind rating: {' '.join(said)}" for said in read_verdicts(directory).values())


def current_evaluation(run: Run) -> tuple[Evaluation | None, str]:
    """The run's evaluation and what is to be said of it; made now from the stored samples where there is none, or one
    of rungs that the ladder no longer has (a run resumed from before them).
    """
    stored = [rung.name for rung in run.rungs if (run.directory / rung.samples).exists()]
    evaluation = stored_evaluation(run)
    if evaluation is not None:
        scored = [rung.name for rung in evaluation.rungs]
        later = [name for name in stored if name not in scored]
        told = f"{run.name}: evaluated before {', '.join(later)} came; `rlhf evaluate` scores them too."
        return evaluation, told if later else ""
    if not stored:
        return None, f"{run.name}: no rung has samples yet, so there is nothing to compare along the ladder."
    fresh = evaluate_run(run.directory)
    return fresh, f"{run.name}: evaluated from the samples stored with its rungs while this report was made."


def breaks(run: Run) -> list[str]:
    """What a reader of a run's numbers must know: inputs that changed on the way, steps that went too far."""
    found = []
    for line in run.metrics:
        if line.get("accepted_changes"):
            found.append(f"from iteration {line['iteration']} on with another {', '.join(line['accepted_changes'])}")
        if line.get("step_too_large"):
            found.append(line["step_too_large"])
    return [f"{run.name}: {text}." for text in found]


def accepted(run: Run, evaluation: Evaluation | None) -> list[str]:
    """What was no longer as the run had it when it was evaluated."""
    changed = evaluation.accepted_changes if evaluation else []
    return (
        [f"{run.name}: evaluated though this had changed, which was accepted: {'; '.join(changed)}."] if changed else []
    )


def chart_row(chart: Chart) -> dict[str, Any]:
    """What the template needs of a chart; the definitions of its metrics become the hover text."""
    return {"id": chart.id, "title": chart.title, "note": chart.note, "meaning": meaning_of(*chart.keys)}
