"""The report: one HTML file that opens from disk without a network and tells the story of a run, or of several."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from labeling.files import write_text
from labeling.records import Sample
from rlhf.inspection.curves import run_straightness, training_charts
from rlhf.inspection.display import display_text, script_json
from rlhf.inspection.equal_kl import at_equal_kl
from rlhf.inspection.evaluation import Evaluation, evaluate_run, read_evaluation
from rlhf.inspection.figures import Chart, Story, against_kl
from rlhf.inspection.run_directory import Run, read_ladder_samples, read_run, sqrt_kl
from rlhf.ppo.metrics import METRICS

PAGE = Path(__file__).parent
LONGEST_SAMPLE = 2000  # characters shown of one sample
CHARACTER_BUDGET = 16_000_000  # of all samples together, to keep the file under 30 MB


@dataclass(frozen=True, slots=True)
class Fact:
    """One figure at the top of the page."""

    label: str
    value: str
    detail: str


def build_report(run_dir: Path, output: Path | None = None, *, others: Sequence[Path] = ()) -> Path:
    """Write the report of `run_dir` (default RUN/report.html) and return its path; `others` are drawn over it.

    A ladder that was not evaluated yet is evaluated from its stored samples first. Raises InputError when a
    directory is no run or holds nothing to show.
    """
    from plotly.offline import get_plotlyjs

    stories, notices = [], []
    for directory in (run_dir, *others):
        run = read_run(directory)
        evaluation, notice = current_evaluation(run)
        stories.append(Story(run, evaluation))
        notices += [notice] if notice else []
    scored = [story.evaluation for story in stories if story.evaluation]
    rewards = ["proxy", *dict.fromkeys(name for e in scored for name in (*e.golds, *e.qualities))]
    along, curves = against_kl(stories, rewards), training_charts(stories)
    page = Environment(loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined)
    html = page.get_template("report.html").render(
        title=" and ".join(story.run.name for story in stories),
        stories=[story_facts(story) for story in stories],
        notices=notices,
        along=[chart_row(chart) for chart in along],
        curves=[chart_row(chart) for chart in curves],
        style=(PAGE / "report.css").read_text(encoding="utf-8"),
        script=(PAGE / "report.js").read_text(encoding="utf-8"),
        plotly=get_plotlyjs(),
        data=script_json(page_data(stories, [*along, *curves])),
    )
    target = output or run_dir / "report.html"
    write_text(target, html)
    return target


def current_evaluation(run: Run) -> tuple[Evaluation | None, str]:
    """The run's evaluation, made now from the stored samples if there is none or it lacks a rung; and what was done."""
    path = run.directory / "evaluation.json"
    stored = [rung.name for rung in run.rungs if (run.directory / rung.samples).exists()]
    if path.exists():
        evaluation = read_evaluation(path)
        if set(stored) <= {rung.name for rung in evaluation.rungs}:
            return evaluation, ""
    if not stored:
        return None, f"{run.name}: no rung has samples yet, so there is nothing to compare along the ladder."
    fresh = evaluate_run(run.directory)
    return fresh, f"{run.name}: evaluated from the samples stored with its rungs while this report was made."


def chart_row(chart: Chart) -> dict[str, Any]:
    """What the template needs of a chart; the definitions of its metrics become the hover text."""
    meaning = "\n".join(
        f"{key}: {METRICS[key].estimator} [{METRICS[key].unit}]; over {METRICS[key].mask}; "
        f"healthy: {METRICS[key].healthy}"
        for key in chart.keys
        if key in METRICS
    )
    return {"id": chart.id, "title": chart.title, "note": chart.note, "meaning": meaning}


def page_data(stories: Sequence[Story], charts: Sequence[Chart]) -> dict[str, Any]:
    """Everything the page's script reads: figures, rungs and samples."""
    return {
        "charts": [
            {"id": chart.id, "byIteration": chart.by_iteration, **json.loads(chart.figure.to_json())}
            for chart in charts
        ],
        "runs": [run_data(story) for story in stories],
    }


def run_data(story: Story) -> dict[str, Any]:
    """Rungs and samples of one run for the script; samples are columns to keep the file small."""
    run, evaluation = story.run, story.evaluation
    folder = evaluation.samples if evaluation and evaluation.samples != "samples" else None
    samples = read_ladder_samples(run, folder) if evaluation else {}
    scores = evaluation.scores if evaluation else {}
    count = max(1, sum(len(rows) for rows in samples.values()))
    cap = max(100, min(LONGEST_SAMPLE, CHARACTER_BUDGET // count))
    first = next(iter(samples.values()), [])
    names = [rung.name for rung in run.rungs if rung.name in samples and rung.name in scores]
    peak = next((onset.rung for onset in evaluation.onsets.values()), None) if evaluation else None
    return {
        "name": run.name,
        "start": names.index(peak) if peak in names[:-1] else len(names) // 2,
        "rungs": [
            {
                "name": rung.name,
                "kl": rung.kl_per_completion,
                "klSe": rung.kl_per_completion_se,
                "sqrtKl": sqrt_kl(rung.kl_per_completion),
                "iteration": rung.iteration,
                "samples": sample_columns(samples[rung.name], scores[rung.name], cap),
            }
            for rung in run.rungs
            if rung.name in names
        ],
        "prompts": [display_text(row.prompt, cap) for row in first] if any(row.prompt for row in first) else [],
    }


def sample_columns(
    rows: Sequence[Sample], scores: Mapping[str, Sequence[float | None]], cap: int
) -> dict[str, Sequence[Any]]:
    """Texts and scores of one rung, column by column."""
    rounded = {
        name: [None if value is None else float(f"{value:.4g}") for value in values] for name, values in scores.items()
    }
    return {
        "text": [display_text(row.completion, cap) for row in rows],
        **{f"score {k}": v for k, v in rounded.items()},
    }


def story_facts(story: Story) -> dict[str, Any]:
    """What the template shows of one run: figures, findings, the table of rungs, the configuration."""
    run, evaluation = story.run, story.evaluation
    return {
        "name": run.name,
        "state": state(run),
        "facts": key_figures(story),
        "findings": findings(story),
        "golds": [f"gold: {name}" for name in evaluation.golds] + evaluation.qualities if evaluation else [],
        "rungs": rung_rows(story),
        "config": {key: json.dumps(value, ensure_ascii=False, indent=2) for key, value in sorted(run.info.items())},
    }


def state(run: Run) -> str:
    """Whether the run ended, and why."""
    status, reason = run.info.get("status", "unknown"), run.info.get("stop_reason")
    at = f"after {run.metrics[-1]['iteration']} iterations"
    if run.running:
        return f"still running (or interrupted): what follows is as of iteration {run.metrics[-1]['iteration']}"
    return f"{status} {at}" + (f": {reason}" if reason else "")


def key_figures(story: Story) -> list[Fact]:
    """The handful of numbers at the top."""
    run, evaluation = story.run, story.evaluation
    facts = []
    if run.rungs:
        last = run.rungs[-1]
        error = f"± {last.kl_per_completion_se:.2f} nats" if last.kl_per_completion_se is not None else "nats"
        budget = f" of a budget of {run.budget_nats:g}" if run.budget_nats else ""
        facts.append(Fact("KL at the last rung", f"{last.kl_per_completion:.2f}", f"{error} per completion{budget}"))
    if evaluation and len(evaluation.rungs) > 1:
        start, end = evaluation.rungs[0], evaluation.rungs[-1]
        for name in ("proxy", *evaluation.golds):
            before, after = (r.proxy if name == "proxy" else r.gold.get(name) for r in (start, end))
            if before and after:
                value = f"{before.mean:.2f} → {after.mean:.2f}"
                errors = f"± {before.se or 0:.2f} → ± {after.se or 0:.2f}, {after.n:,} samples a rung"
                facts.append(Fact("Proxy" if name == "proxy" else f"Gold: {name}", value, errors))
    clips = [row["clip_ratio/outside_mean"] for row in run.metrics if row.get("clip_ratio/outside_mean") is not None]
    if clips:
        detail = f"median of {len(clips)} iterations; healthy 1 to 20 %"
        facts.append(Fact("Clip fraction", f"{statistics.median(clips):.1%}", detail))
    seen = run.metrics[-1].get("completions_seen")
    if seen is not None:
        facts.append(
            Fact("Completions", f"{seen:,}", f"sampled for updates in {run.metrics[-1]['iteration']} iterations")
        )
    return facts


def findings(story: Story) -> list[str]:
    """Plain statements: overoptimisation by gold, PPO against best-of-n, straightness of √KL."""
    run, evaluation = story.run, story.evaluation
    told = []
    if evaluation:
        told += [onset.statement() for onset in evaluation.onsets.values()]
        if not evaluation.onsets:
            told.append("No gold reward was given, so overoptimisation cannot be seen: only the proxy is known.")
        compared = (at_equal_kl(evaluation, reward) for reward in (evaluation.golds or ["proxy"]))
        told += [found.statement() for found in compared if found]
    fit = run_straightness(run)
    if fit is not None:
        told.append(f"√KL against optimiser steps: {fit.text()}.")
    return told


def rung_rows(story: Story) -> list[dict[str, Any]]:
    """The table of rungs; a cell that is not known is a dash."""
    run, evaluation = story.run, story.evaluation
    scored = {rung.name: rung for rung in evaluation.rungs} if evaluation else {}
    samples = read_ladder_samples(run) if evaluation else {}
    rows = []
    for rung in run.rungs:
        known = scored.get(rung.name)
        proxy = known.proxy if known and known.proxy else None
        rows.append(
            {
                "name": rung.name,
                "kl": plus_minus(rung.kl_per_completion, rung.kl_per_completion_se),
                "iteration": rung.iteration,
                "proxy": plus_minus(proxy.mean, proxy.se) if proxy else plus_minus(rung.reward, rung.reward_se),
                "gold": [
                    plus_minus(mean.mean, mean.se) if known and (mean := known.reward(name)) else "–"
                    for name in ([*evaluation.golds, *evaluation.qualities] if evaluation else [])
                ],
                "distinct": f"{known.distinct_2:.3f}" if known and known.distinct_2 is not None else "–",
                "top": f"{known.top_completion_share:.1%}" if known else "–",
                "copied": f"{known.verbatim_share:.0%}" if known and known.verbatim_share is not None else "–",
                "sample": display_text(samples[rung.name][0].completion, 160) if rung.name in samples else "–",
            }
        )
    return rows


def plus_minus(value: float, error: float | None) -> str:
    """`1.23 ± 0.04`, or the value alone."""
    return f"{value:.3f}" if error is None or not math.isfinite(error) else f"{value:.3f} ± {error:.3f}"
