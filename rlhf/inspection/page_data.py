"""What the report's script reads: figures, rungs, samples, side effects, heat; text is made safe here."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rlhf.foundation.conversation import in_turns
from rlhf.foundation.files import read_json
from rlhf.foundation.records import Sample
from rlhf.inspection.display import display_text
from rlhf.inspection.evaluation import Evaluation
from rlhf.inspection.figures import Chart, Story
from rlhf.inspection.recommendation import recommend
from rlhf.inspection.scoring import PROXY
from rlhf.inspection.side_effects import SideEffects, Term
from rlhf.runs.reading import Run, bad_file, read_ladder_samples, read_stored_samples, samples_folder, sqrt_kl

LONGEST_SAMPLE = 2000  # characters shown of one sample
CHARACTER_BUDGET = 16_000_000  # of all samples together, to keep the file under 30 MB
TERMS_SHOWN = 15  # words, and phrases, in either direction at each rung


def page_data(stories: Sequence[Story], charts: Sequence[Chart]) -> dict[str, Any]:
    """Everything the page's script reads. Raises InputError when a file of the run is torn."""
    return {
        "charts": [
            {"id": chart.id, "byIteration": chart.by_iteration, **json.loads(chart.figure.to_json())}
            for chart in charts
        ],
        "runs": [run_data(story.run, story.evaluation) for story in stories],
    }


def run_data(run: Run, evaluation: Evaluation | None) -> dict[str, Any]:
    """Rungs and samples of one run; samples are columns to keep the file small.

    Before the run is evaluated, those stored with the rungs, with the reward they were trained on.
    """
    samples = read_ladder_samples(run, samples_folder(evaluation.samples) if evaluation else None)
    count = max(1, sum(len(rows) for rows in samples.values()))
    cap = max(100, min(LONGEST_SAMPLE, CHARACTER_BUDGET // count))
    rungs = [rung for rung in measured_rungs(run, evaluation) if rung.name in samples]
    names = [rung.name for rung in rungs]
    first = next(iter(samples.values()), [])
    prompts = [display_text(in_turns(row.prompt), cap) for row in first]
    heat = read_heat(run, evaluation) if evaluation else {}
    iterations = {rung.name: rung.iteration for rung in run.rungs}
    return {
        "name": run.name,
        "start": start_rung(names, evaluation),
        "rungs": [
            {
                "name": rung.name,
                "kl": rung.kl,
                "klSe": rung.kl_se,
                "sqrtKl": sqrt_kl(rung.kl),
                "iteration": iterations[rung.name],
                "samples": sample_columns(samples[rung.name], rung.scores, cap),
                "heat": heat.get(rung.name, []),
                "effects": effects_data(evaluation.side_effects.get(rung.name) if evaluation else None),
            }
            for rung in rungs
        ],
        "prompts": prompts if any(prompts) else [],
    }


class MeasuredRung(NamedTuple):
    """A rung with its KL in nats, that one's standard error, and its samples' scores by reward."""

    name: str
    kl: float
    kl_se: float | None
    scores: Mapping[str, Sequence[float | None]]


def measured_rungs(run: Run, evaluation: Evaluation | None) -> list[MeasuredRung]:
    """The evaluated rungs; before there is an evaluation those of the ladder."""
    if evaluation is not None:
        return [MeasuredRung(rung.name, rung.kl, rung.kl_se, evaluation.scores[rung.name]) for rung in evaluation.rungs]
    stored = read_stored_samples(run)
    return [
        MeasuredRung(
            rung.name,
            rung.kl_per_completion,
            rung.kl_per_completion_se,
            {PROXY: [row.reward for row in stored.get(rung.name, [])]},
        )
        for rung in run.rungs
    ]


def start_rung(names: Sequence[str], evaluation: Evaluation | None) -> int:
    """The rung that the page opens at: gold's peak, else the one advised, else the middle."""
    if evaluation is None:
        return len(names) // 2
    peak = next((evaluation.onsets[name].rung for name in evaluation.telling_golds), None)
    advised = recommend(evaluation)
    opening = [name for name in (peak, advised.rung if advised else None) if name in names[:-1]]
    return names.index(opening[0]) if opening else len(names) // 2


def sample_columns(
    rows: Sequence[Sample], scores: Mapping[str, Sequence[float | None]], cap: int
) -> dict[str, Sequence[Any]]:
    """Texts and scores of one rung, column by column."""
    return {
        "text": [display_text(row.completion, cap) for row in rows],
        **{f"score {name}": [significant(value, 4) for value in values] for name, values in scores.items()},
    }


def significant(value: float | None, digits: int) -> float | None:
    """The number with so many significant digits, which is what a page needs of it."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.{digits}g}")


def read_heat(run: Run, evaluation: Evaluation) -> dict[str, list[dict[str, Any]]]:
    """KL and pay by token of the first samples of each rung; empty for samples stored by the trainer."""
    path = run.directory / evaluation.samples / "heat.json"
    if evaluation.samples == "samples" or not path.exists():
        return {}
    heat = read_json(path)
    try:
        return {
            name: [
                {
                    "tokens": [display_text(token, 100) for token in row["tokens"]],
                    "kl": row["kl"],
                    "pay": row["pay"],
                }
                for row in rows
            ]
            for name, rows in heat.items()
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise bad_file(path, f"another shape ({error})", "the file of `rlhf evaluate`") from error


def effects_data(effects: SideEffects | None) -> dict[str, Any] | None:
    """The strongest findings of one rung, each way; the rewarded words apart."""
    if effects is None:
        return None
    up = [term for term in effects.terms if term.log_odds > 0]
    down = [term for term in effects.terms if term.log_odds < 0]
    return {
        "tested": effects.tested,
        "found": len(effects.terms),
        "rewarded": [term_data(term) for term in effects.rewarded],
        **{
            f"{way}{size}": [term_data(term) for term in terms if term.words == size][:TERMS_SHOWN]
            for way, terms in (("up", up), ("down", down))
            for size in (1, 2)
        },
    }


def term_data(term: Term) -> dict[str, Any]:
    """One row of the side-effect tables; `factor` multiplies the odds."""
    return {
        "term": display_text(term.term, 60),
        "factor": significant(math.exp(term.log_odds), 3),
        "q": significant(term.q, 2),
        "before": significant(term.rate_before, 3),
        "after": significant(term.rate_after, 3),
        "samplesBefore": term.samples_before,
        "samplesAfter": term.samples_after,
        "r": significant(term.reward_correlation, 2),
    }
