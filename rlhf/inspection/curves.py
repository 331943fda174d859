"""Curves by iteration: reward, KL and its straightness, clip fraction and the controller, entropy, length, time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from rlhf.inspection.figures import (
    ALARM,
    BEST_OF_N,
    GOLD,
    KL,
    OTHER,
    PALETTE,
    PROXY,
    Chart,
    Point,
    Story,
    band,
    colour_of,
    column,
    iterations,
    label,
    line,
    rgba,
    titled,
)
from rlhf.inspection.straightness import Straightness, straightness
from rlhf.runs.reading import Run, sqrt_kl

ITERATION = "iteration"
HEALTHY_CLIP = (0.01, 0.20)  # below: the batch grows; above: the learning rate is halved
ACTIONS = {"grow_batch": ("▲ batch grew", BEST_OF_N), "halve_learning_rate": ("▼ learning rate halved", ALARM)}


def training_charts(stories: Sequence[Story]) -> list[Chart]:
    """Every curve by iteration that the run has values for."""
    charts = [
        reward_chart(stories),
        kl_chart(stories),
        straightness_chart(stories),
        clip_chart(stories),
        simple(stories, "batch", "Batch size", "iteration_batch_size", "completions", OTHER, steps=True),
        simple(stories, "entropy", "Entropy", "entropy", "nats per token", KL),
        simple(stories, "length", "Length", "completions/mean_length", "tokens per completion", PROXY),
        simple(stories, "distinct", "Distinct-2 (token pairs)", "distinct_2", "fraction", GOLD),
        seconds_chart(stories),
    ]
    return [chart for chart in charts if chart.figure.data]


def reward_chart(stories: Sequence[Story]) -> Chart:
    """Raw reward with its error; gold of the rungs at the iterations they were taken."""
    figure = go.Figure()
    for index, story in enumerate(stories):
        run, colour = story.run, colour_of(stories, index, PROXY)
        name = label(stories, story, "proxy")
        band(figure, iterations(run), column(run, "reward"), column(run, "reward_se"), colour, name)
        taken = {rung.name: float(rung.iteration) for rung in run.rungs}
        for number, gold in enumerate(story.evaluation.golds if story.evaluation else []):
            rungs = [r for r in story.evaluation.rungs if r.gold.get(gold)] if story.evaluation else []
            means = [r.gold[gold] for r in rungs]
            colour = PALETTE[(1 + number) % len(PALETTE)] if len(stories) == 1 else colour
            band(
                figure, [taken[r.name] for r in rungs], [m.mean if m else None for m in means],
                [m.se if m else None for m in means], colour, label(stories, story, gold_label(gold)),
            )  # fmt: skip
            figure.data[-1].line.dash = "dot"
    mark_controller(figure, stories)
    titled(figure, ITERATION, "raw reward")
    return Chart("reward", "Reward", "mean ± standard error; gold at the rungs", figure, ("reward", "reward_se"))


def gold_label(name: str) -> str:
    """What a gold is called beside other rewards."""
    return name if name == "gold" else f"gold: {name}"


def kl_chart(stories: Sequence[Story]) -> Chart:
    """KL per completion by the exact per-prefix estimator, k1 beside it when there is one run."""
    figure = go.Figure()
    for index, story in enumerate(stories):
        run, colour = story.run, colour_of(stories, index, KL)
        errors = column(run, "kl_per_completion_se")
        name = "exact per prefix" if len(stories) == 1 else run.name
        band(figure, iterations(run), column(run, "kl_per_completion"), errors, colour, name)
        if len(stories) == 1 and any(v is not None for v in column(run, "kl_k1")):
            line(figure, iterations(run), column(run, "kl_k1"), OTHER, "k1", "dot")
        if run.budget_nats and index == 0:
            figure.add_hline(y=run.budget_nats, line={"color": ALARM, "width": 1, "dash": "dash"})
            figure.add_annotation(
                x=0, xref="paper", y=run.budget_nats, text=f"budget {run.budget_nats:g} nats", showarrow=False,
                xanchor="left", yanchor="bottom", font={"size": 11},
            )  # fmt: skip
    titled(figure, ITERATION, "nats per completion")
    keys = ("kl_per_completion", "kl_per_completion_se", "kl_k1")
    title = "KL(policy ‖ original)"
    return Chart("kl", title, "mean ± standard error", figure, keys, quantity=title)


def run_straightness(run: Run) -> Straightness | None:
    """The line through √KL against optimiser steps of one run, as far as its updates were whole."""
    rows = run.metrics[: whole_updates(run)]
    steps = [float(row["optimizer_steps"]) for row in rows]
    return straightness(steps, [sqrt_kl(row["kl_per_completion"]) for row in rows])


def whole_updates(run: Run) -> int:
    """How many lines describe policies that whole updates made: those after one shortened or undone do not."""
    others = (i for i, row in enumerate(run.metrics, start=1) if row.get("kl_landing") or back_to(row))
    return next(others, len(run.metrics))


def back_to(row: Mapping[str, Any]) -> str | None:
    """The rung that a guard took the run back to at a line of metrics; None at all others."""
    found: str | None = (row.get("guard") or {}).get("back_to")
    return found


def straightness_chart(stories: Sequence[Story]) -> Chart:
    """√KL against optimiser steps with the straight line through it."""
    figure = go.Figure()
    told = []
    for index, story in enumerate(stories):
        run, colour = story.run, colour_of(stories, index, KL)
        steps = [float(v or 0) for v in column(run, "optimizer_steps")]
        roots = [sqrt_kl(row["kl_per_completion"]) for row in run.metrics]
        figure.add_scatter(
            x=steps, y=roots, mode="markers", marker={"color": colour, "size": 6},
            name="√KL" if len(stories) == 1 else run.name, hovertemplate="%{y:.3f}",
        )  # fmt: skip
        fit = run_straightness(run)
        if fit is not None:
            told.append(label(stories, story, fit.text()))
            middle = (sum(steps) / len(steps), sum(roots) / len(roots))
            ends = [min(steps), max(steps)]
            heights = [middle[1] + fit.slope * (end - middle[0]) for end in ends]
            line(
                figure, ends, heights, colour_of(stories, index, OTHER), label(stories, story, "straight line"), "dash"
            )
            figure.data[-1].showlegend = len(stories) == 1
    titled(figure, "optimiser steps", "√nats per completion")
    keys = ("sqrt_kl", "optimizer_steps")
    title, note = "√KL against optimiser steps", "; ".join(told)
    return Chart("sqrt-kl", title, note, figure, keys, by_iteration=False, quantity="√KL(policy ‖ original)")


def clip_chart(stories: Sequence[Story]) -> Chart:
    """Both clip fractions with the healthy band; marks where the controller acted."""
    figure = go.Figure()
    for index, story in enumerate(stories):
        run, colour = story.run, colour_of(stories, index, PROXY)
        outside, binding = column(run, "clip_ratio/outside_mean"), column(run, "clip_ratio/region_mean")
        if any(v is not None for v in outside):
            line(figure, iterations(run), outside, colour, "|ratio − 1| > ε" if len(stories) == 1 else run.name)
        if len(stories) == 1 and any(v is not None for v in binding):
            line(figure, iterations(run), binding, GOLD, "clip binds", "dot")
    if figure.data:
        low, high = HEALTHY_CLIP
        figure.add_hrect(y0=low, y1=high, fillcolor=rgba(BEST_OF_N, 0.12), line={"width": 0}, layer="below")
    mark_controller(figure, stories)
    titled(figure, ITERATION, "fraction of tokens")
    highest = max((v for trace in figure.data for v in trace.y if v is not None), default=0.0)
    figure.update_yaxes(tickformat=".1%", range=[0, max(0.03, 1.25 * highest)])
    note = "shaded: 1 % to 20 %; below it the batch grows, above it the learning rate is halved"
    keys = ("clip_ratio/outside_mean", "clip_ratio/region_mean")
    return Chart("clip", "Clip fraction", note, figure, keys, quantity="clip fraction" if len(stories) > 1 else "")


def mark_controller(figure: go.Figure, stories: Sequence[Story]) -> None:
    """A vertical line with its reason on hover wherever the controller acted (one run only, to stay readable)."""
    if len(stories) != 1 or not figure.data:
        return
    for row in stories[0].run.metrics:
        decision = row.get("controller")
        if not isinstance(decision, dict):
            continue
        text, colour = ACTIONS.get(str(decision.get("action")), (str(decision.get("action")), OTHER))
        figure.add_vline(x=row[ITERATION], line={"color": colour, "width": 1, "dash": "dot"})
        figure.add_annotation(
            x=row[ITERATION], y=1, yref="paper", yanchor="top", text=text[0], showarrow=False,
            hovertext=f"iteration {row[ITERATION]}: {text[2:]}: {decision.get('reason', '')}",
            font={"color": colour, "size": 13},
        )  # fmt: skip


def simple(
    stories: Sequence[Story], chart: str, title: str, key: str, unit: str, alone: str, *, steps: bool = False
) -> Chart:
    """One metric by iteration."""
    figure = go.Figure()
    for index, story in enumerate(stories):
        values = column(story.run, key)
        if any(value is not None for value in values):
            name = title.lower() if len(stories) == 1 else story.run.name
            line(figure, iterations(story.run), values, colour_of(stories, index, alone), name)
            if steps:
                figure.data[-1].line.shape = "hv"
    if steps:
        mark_controller(figure, stories)
        figure.update_yaxes(rangemode="tozero")
    titled(figure, ITERATION, unit)
    figure.update_layout(showlegend=len(stories) > 1)
    return Chart(chart, title, "", figure, (key,), quantity=title[0].lower() + title[1:])


def seconds_chart(stories: Sequence[Story]) -> Chart:
    """Where the time went: stacked stages for one run, total for several."""
    figure = go.Figure()
    stages = ("seconds/generate", "seconds/score", "seconds/reference", "seconds/update")
    for index, story in enumerate(stories):
        run = story.run
        if len(stories) > 1:
            total: list[Point] = [sum(row.get(stage) or 0.0 for stage in stages) for row in run.metrics]
            line(figure, iterations(run), total, colour_of(stories, index, OTHER), run.name)
            continue
        for stage, colour in zip(stages, PALETTE, strict=False):
            if any(value is not None for value in column(run, stage)):
                figure.add_bar(
                    x=iterations(run), y=column(run, stage), name=stage.split("/")[1],
                    marker={"color": colour}, hovertemplate="%{y:.2f} s",
                )  # fmt: skip
    titled(figure, ITERATION, "seconds")
    figure.update_layout(barmode="stack")
    return Chart("seconds", "Seconds by stage", "", figure, stages, quantity="time of an iteration")
