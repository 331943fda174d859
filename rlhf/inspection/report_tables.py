"""What the report's template shows of one run: figures, findings, tables, configuration."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlhf.inspection.curves import run_straightness
from rlhf.inspection.display import display_text
from rlhf.inspection.equal_kl import at_equal_kl
from rlhf.inspection.estimates import Estimate
from rlhf.inspection.evaluation import RungEvaluation, course
from rlhf.inspection.figures import Story
from rlhf.inspection.overoptimisation import find_onset
from rlhf.inspection.recommendation import recommend
from rlhf.inspection.run_directory import Run, read_ladder_samples
from rlhf.inspection.scoring import PROXY


@dataclass(frozen=True, slots=True)
class Fact:
    """One figure at the top of the page."""

    label: str
    value: str
    detail: str


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
        "collapse": collapse_rows(story),
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
        told += [story.human.statement()] if story.human else []
        advice = recommend(evaluation)
        told += [advice.text()] if advice else []
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
                "kl": plus_minus(known.kl, known.kl_se)
                if known
                else plus_minus(rung.kl_per_completion, rung.kl_per_completion_se),
                "iteration": rung.iteration,
                "proxy": plus_minus(proxy.mean, proxy.se) if proxy else plus_minus(rung.reward, rung.reward_se),
                "gold": [
                    plus_minus(mean.mean, mean.se) if known and (mean := known.reward(name)) else "–"
                    for name in ([*evaluation.golds, *evaluation.qualities] if evaluation else [])
                ],
                "sample": display_text(samples[rung.name][0].completion, 160) if rung.name in samples else "–",
            }
        )
    return rows


def plus_minus(value: float, error: float | None) -> str:
    """`1.23 ± 0.04`, or the value alone."""
    return f"{value:.3f}" if error is None or not math.isfinite(error) else f"{value:.3f} ± {error:.3f}"


def collapse_rows(story: Story) -> list[dict[str, str]]:
    """Variety, copying, held-out loss, length and sentiment by rung."""
    rungs = story.evaluation.rungs if story.evaluation else []
    return [{"name": rung.name, **collapse_cells(rung)} for rung in rungs]


def collapse_cells(rung: RungEvaluation) -> dict[str, str]:
    """One row of the table, in the order of its columns."""

    def number(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    def mean(value: Estimate | None, digits: int) -> str:
        return "–" if value is None else f"{value.mean:.{digits}f} ± {value.se or 0:.{digits}f}"

    longest = mean(rung.longest_run, 1) + ("" if rung.longest_run_max is None else f", at most {rung.longest_run_max}")
    return {
        "distinct_1": number(rung.distinct_1, ".3f"),
        "distinct_2": number(rung.distinct_2, ".3f"),
        "compression": number(rung.compression_ratio, ".2f"),
        "top": number(rung.top_completion_share, ".1%"),
        "copied": number(rung.verbatim_share, ".1%"),
        "longest": longest,
        "heldout": mean(rung.heldout, 3),
        "length": mean(rung.length, 0),
        "sentiment": mean(rung.sentiment, 3),
    }


SEED_ONLY = {"seed", "output_dir", "resume", "quiet"}  # options that may differ between runs of one experiment


def over_runs(stories: Sequence[Story]) -> list[str]:
    """The onset of each shared gold over several runs that differ in nothing but their seed; else nothing."""
    settings = [
        {key: value for key, value in story.run.info.get("resolved", {}).items() if key not in SEED_ONLY}
        for story in stories
    ]
    evaluations = [story.evaluation for story in stories if story.evaluation]
    alike = len(evaluations) == len(stories) > 1 and all(settings) and all(s == settings[0] for s in settings)
    if not alike:
        return []
    told = []
    for gold in evaluations[0].golds:
        if all(gold in evaluation.golds for evaluation in evaluations):
            courses = [course(evaluation.rungs, evaluation.scores, gold) for evaluation in evaluations]
            first = evaluations[0]
            names, proxy = [rung.name for rung in first.rungs], course(first.rungs, first.scores, PROXY)
            told.append(find_onset(gold, names, courses, proxy, draws=500).statement())
    return told
