"""What the report's template shows of one run: figures, findings, tables, configuration."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlhf.inspection.curve_fits import FORMULAS
from rlhf.inspection.curves import back_to, run_straightness
from rlhf.inspection.display import display_text
from rlhf.inspection.equal_kl import at_equal_kl
from rlhf.inspection.estimates import Estimate
from rlhf.inspection.evaluation import Evaluation, RungEvaluation
from rlhf.inspection.figures import Story
from rlhf.inspection.kl_efficiency import statement as efficiency_statement
from rlhf.inspection.recommendation import recommend
from rlhf.inspection.straightness import went_back
from rlhf.runs.metrics import metric_of
from rlhf.runs.reading import FROM_TEXTS, Run, read_ladder_samples, samples_folder


@dataclass(frozen=True, slots=True)
class Fact:
    """One figure at the top of the page."""

    label: str
    value: str
    detail: str
    meaning: str


def story_facts(story: Story) -> dict[str, Any]:
    """What the template shows of one run: figures, findings, the table of rungs, the configuration."""
    run, evaluation = story.run, story.evaluation
    return {
        "name": run.name,
        "state": state(run),
        "facts": key_figures(story),
        "findings": findings(story),
        "fits": fit_rows(story),
        "golds": gold_columns(evaluation) if evaluation else [],
        "rungs": rung_rows(story),
        "collapse": collapse_table(story),
        "config": {k: v for k, v in sorted(run.info.items()) if not isinstance(v, (dict, list))},
        "details": {
            key: json.dumps(value, ensure_ascii=False, indent=2)
            for key, value in sorted(run.info.items())
            if isinstance(value, (dict, list))
        },
    }


KL_MEANS = (
    "KL(policy ‖ original): exact at every sampled prefix, summed over the completion, nats, at temperature 1, on the "
    "rung's own evaluation samples"
)
PROXY_MEANS = "the raw reward that the policy was trained on, mean over a rung's samples with its standard error"
GOLD_MEANS = "a judgement that no part of the trainer reads, mean over a rung's samples with its standard error"

CONSTANT_MEANS = "this judgement is the same on every sample of every rung: it knows nothing of these texts"


def meaning_of(*keys: str) -> str:
    """What metrics mean, from their one definition: the text shown on hover."""
    known = ((key, metric) for key in keys if (metric := metric_of(key)) is not None)
    return "\n".join(
        f"{key}: {metric.estimator} [{metric.unit}]; over {metric.mask}; healthy: {metric.healthy}"
        for key, metric in known
    )


def fit_rows(story: Story) -> list[dict[str, str]]:
    """The fitted forms of every reward, PPO's and best-of-n's, with errors and goodness."""
    if story.evaluation is None:
        return []
    return [
        {
            "reward": reward,
            "policy": policy,
            "form": FORMULAS[fit.form],
            "alpha": plus_minus(fit.alpha or 0.0, fit.alpha_se),
            "beta": plus_minus(fit.beta or 0.0, fit.beta_se),
            "r_squared": f"{fit.r_squared:.3f}",
            "goodness": "–" if fit.p_value is None else small(fit.p_value),
        }
        for policy, fits in (
            (story.run.method, story.evaluation.ppo_fits),
            ("best-of-n", story.evaluation.best_of_n_fits),
        )
        for reward, fit in fits.items()
    ]


def small(p: float) -> str:
    """A probability for people."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def gold_columns(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Heading and meaning of the columns of golds and qualities."""
    golds = []
    for name in evaluation.golds:
        heading = "gold" if name == "gold" else f"gold: {name}"
        told = name in evaluation.telling_golds
        golds.append((heading if told else f"{heading} (constant)", GOLD_MEANS if told else CONSTANT_MEANS))
    quality = "a quality that nobody labelled, mean over a rung's samples with its standard error"
    return golds + [(name, quality) for name in evaluation.qualities]


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
        known = {rung.name: (rung.kl, rung.kl_se) for rung in evaluation.rungs} if evaluation else {}
        last = run.rungs[-1]
        kl, se = known.get(last.name, (last.kl_per_completion, last.kl_per_completion_se))
        error = f"± {se:.2f} nats" if se is not None else "nats"
        budget = f" of a budget of {run.budget_nats:g}" if run.budget_nats else ""
        facts.append(Fact("KL at the last rung", f"{kl:.2f}", f"{error} per completion{budget}", KL_MEANS))
    if evaluation and len(evaluation.rungs) > 1:
        start, end = evaluation.rungs[0], evaluation.rungs[-1]
        for name in ("proxy", *evaluation.telling_golds):
            before, after = (r.proxy if name == "proxy" else r.gold.get(name) for r in (start, end))
            if before and after:
                value = f"{before.mean:.2f} → {after.mean:.2f}"
                errors = f"± {before.se or 0:.2f} → ± {after.se or 0:.2f}, original to last rung, n = {after.n:,} each"
                label = "Proxy" if name == "proxy" else "Gold" if name == "gold" else f"Gold: {name}"
                facts.append(Fact(label, value, errors, PROXY_MEANS if name == "proxy" else GOLD_MEANS))
    clips = [row["clip_ratio/outside_mean"] for row in run.metrics if row.get("clip_ratio/outside_mean") is not None]
    if clips:
        detail = f"median of {len(clips)} iterations; healthy 1 to 20 %"
        meaning = meaning_of("clip_ratio/outside_mean")
        facts.append(Fact("Clip fraction", f"{statistics.median(clips):.1%}", detail, meaning))
    seen = run.metrics[-1].get("completions_seen")
    if seen is not None:
        given = run.method in FROM_TEXTS
        what = "learnt from, each time counted," if given else "sampled for updates"
        where = f"{what} in {run.metrics[-1]['iteration']} iterations"
        facts.append(Fact("Texts" if given else "Completions", f"{seen:,}", where, meaning_of("completions_seen")))
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
        told += story.verdicts
        advice = recommend(evaluation)
        told += [advice.text()] if advice else []
        compared = (at_equal_kl(evaluation, reward) for reward in (evaluation.telling_golds or ["proxy"]))
        told += [found.statement(run.method) for found in compared if found]
        told += [said] if (said := efficiency_statement(evaluation)) else []
        told += side_effect_findings(evaluation)
    told += [said] if (said := went_back(run.rungs)) else []
    told += [said] if (said := taken_back(run)) else []
    fit = run_straightness(run)
    if fit is not None:
        told.append(f"√KL against optimiser steps: {fit.text()}.")
    return told


def taken_back(run: Run) -> str | None:
    """In a sentence, where a guard took the run back to a rung; None where it never did."""
    backs = [f"at iteration {row['iteration']} to {rung}" for row in run.metrics if (rung := back_to(row))]
    if not backs:
        return None
    return (
        f"The guard took the run back {'; '.join(backs)}. The ladder has the way that was kept; the rungs that were "
        "left are in strays/."
    )


NAMED = 6  # words named in the finding, each way


def side_effect_findings(evaluation: Evaluation) -> list[str]:
    """What else changed by the last rung, in a sentence; nothing where no rung has side effects."""
    last = evaluation.rungs[-1].name
    effects = evaluation.side_effects.get(last)
    if effects is None:
        return []
    words = [term for term in effects.terms if term.words == 1]
    ways = (
        ("more", [term.term for term in words if term.log_odds > 0]),
        ("less", [term.term for term in words if term.log_odds < 0]),
    )
    named = "; ".join(f"{way} common {quoted(terms[:NAMED])}" for way, terms in ways if terms)
    besides = (
        f" besides {quoted([term.term for term in effects.rewarded])}, which the reward pays for:"
        if (effects.rewarded)
        else ":"
    )
    counted = f"{len(effects.terms):,} of {effects.tested:,} words and phrases"
    return [f"What else changed by {last}{besides} {counted}" + (f". Surest: {named}." if named else ".")]


def quoted(terms: Sequence[str]) -> str:
    """Terms in quotation marks, safe to look at."""
    return ", ".join(f"“{display_text(term, 40)}”" for term in terms)


def rung_rows(story: Story) -> list[dict[str, Any]]:
    """The table of rungs; a cell that is not known is a dash."""
    run, evaluation = story.run, story.evaluation
    scored = {rung.name: rung for rung in evaluation.rungs} if evaluation else {}
    samples = read_ladder_samples(run, samples_folder(evaluation.samples) if evaluation else None)
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


COLLAPSE_MEANS = {
    "distinct-1": "different words over all words of the rung's samples (Li et al. 2016)",
    "distinct-2": "different pairs of adjacent words over all pairs",
    "compression": "bytes over deflated bytes of all samples: higher is more alike; ranks as self-BLEU does (Shaib et "
    "al. 2024)",
    "most frequent": "share of the most frequent completion",
    "copied lines": "complete sampled lines of three words or more that stand verbatim in the training corpus",
    "copied run": "words of a sample's longest run that stands in the training corpus, mean ± standard error, and the "
    "longest of all",
    "held-out loss": "loss on held-out text, nats per token, mean ± standard error over blocks: what finetuning forgot",
    "perplexity": "exp(held-out loss), per token",
    "length": "characters of a completion, mean ± standard error",
    "sentiment": "VADER's compound score, -1 to 1, mean ± standard error",
}


def collapse_table(story: Story) -> dict[str, Any]:
    """Variety, copying, held-out loss, length and sentiment by rung; columns that no rung has are left out."""
    rungs = story.evaluation.rungs if story.evaluation else []
    rows = [collapse_cells(rung) for rung in rungs]
    columns = {name: means for name, means in COLLAPSE_MEANS.items() if any(row[name] != "–" for row in rows)}
    return {
        "columns": columns,
        "rows": [(rung.name, [row[name] for name in columns]) for rung, row in zip(rungs, rows, strict=True)],
    }


def collapse_cells(rung: RungEvaluation) -> dict[str, str]:
    """One row of the table, in the order of its columns."""

    def number(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    def mean(value: Estimate | None, digits: int) -> str:
        return "–" if value is None else f"{value.mean:.{digits}f} ± {value.se or 0:.{digits}f}"

    longest = mean(rung.longest_run, 1)
    return {
        "distinct-1": number(rung.distinct_1, ".3f"),
        "distinct-2": number(rung.distinct_2, ".3f"),
        "compression": number(rung.compression_ratio, ".2f"),
        "most frequent": number(rung.top_completion_share, ".1%"),
        "copied lines": number(rung.verbatim_share, ".1%"),
        "copied run": longest if rung.longest_run_max is None else f"{longest}; ≤ {rung.longest_run_max}",
        "held-out loss": mean(rung.heldout, 3),
        "perplexity": "–" if rung.heldout is None else f"{math.exp(rung.heldout.mean):.1f}",
        "length": mean(rung.length, 0),
        "sentiment": mean(rung.sentiment, 2),
    }
