"""The report's plots as plotly figures: what is drawn, in which colours; the page adds light or dark.

With one run a colour means a quantity; with several a colour means a run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from rlhf.inspection.curve_fits import REJECTED, CurveFit
from rlhf.inspection.equal_kl import TIES_THAT_MATTER
from rlhf.inspection.evaluation import Evaluation
from rlhf.inspection.human_ladder import HumanLadder
from rlhf.inspection.overoptimisation import Onset
from rlhf.runs.reading import FROM_TEXTS, Run, sqrt_kl

PROXY, GOLD, BEST_OF_N, KL, OTHER, ALARM = "#3f7fd9", "#d9902f", "#2f9e8f", "#8a63d2", "#7a8699", "#d1495b"
PALETTE = (PROXY, GOLD, BEST_OF_N, KL, ALARM, "#6a994e", "#b56576", "#577590")
HEIGHT, ROW, ROWS_WITHIN = 300, 29, 2  # pixels of a chart, of a row of its legend; rows that the height has room for
LEGEND_WIDTH, ENTRY, LETTER = 460, 46, 7  # pixels of the legend, of an entry's line, of a letter of its name
Point = float | None


@dataclass(frozen=True, slots=True)
class Story:
    """What the report tells of one run."""

    run: Run
    evaluation: Evaluation | None
    human: HumanLadder | None = None
    verdicts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chart:
    """One plot with its heading; `keys` are the metrics whose definitions are shown on hover.

    `quantity` is what the y axis shows, where its title is a unit alone and the heading may be missing.
    """

    id: str
    title: str
    note: str
    figure: go.Figure
    keys: tuple[str, ...] = ()
    by_iteration: bool = True
    quantity: str = ""


def rgba(colour: str, alpha: float) -> str:
    """`#rrggbb` with transparency."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def band(
    figure: go.Figure, x: Sequence[float], y: Sequence[Point], error: Sequence[Point], colour: str, name: str
) -> None:
    """A line with its ±1 standard error band; points without a value are left out."""
    rows = [(a, b, e or 0.0) for a, b, e in zip(x, y, error, strict=True) if b is not None]
    if not rows:
        return
    xs = [a for a, _, _ in rows]
    if any(e for _, _, e in rows):
        outline = [b + e for _, b, e in rows] + [b - e for _, b, e in reversed(rows)]
        figure.add_scatter(
            x=xs + xs[::-1], y=outline, fill="toself", fillcolor=rgba(colour, 0.18), line={"width": 0},
            mode="lines", hoverinfo="skip", showlegend=False, legendgroup=name,
        )  # fmt: skip
    figure.add_scatter(
        x=xs, y=[b for _, b, _ in rows], customdata=[e for _, _, e in rows], mode="lines+markers", name=name,
        line={"color": colour, "width": 2}, marker={"size": 5}, legendgroup=name,
        hovertemplate="%{y:.4g} ± %{customdata:.2g}",
    )  # fmt: skip


def line(figure: go.Figure, x: Sequence[float], y: Sequence[Point], colour: str, name: str, dash: str = "") -> None:
    """A line without errors."""
    style = {"color": colour, "width": 2} | ({"dash": dash} if dash else {})
    figure.add_scatter(x=list(x), y=list(y), mode="lines", name=name, line=style, hovertemplate="%{y:.4g}")


def column(run: Run, key: str) -> list[Point]:
    """One key of metrics.jsonl by iteration; None where it is absent."""
    return [row.get(key) for row in run.metrics]


def iterations(run: Run) -> list[float]:
    """The x axis of curves by iteration."""
    return [float(row["iteration"]) for row in run.metrics]


def colour_of(stories: Sequence[Story], index: int, alone: str) -> str:
    """`alone` with one run, else the run's own colour."""
    return alone if len(stories) == 1 else PALETTE[index % len(PALETTE)]


def label(stories: Sequence[Story], story: Story, name: str) -> str:
    """The quantity's name, with the run's in front when there are several."""
    return name if len(stories) == 1 else f"{story.run.name}: {name}"


def legend_rows(figure: go.Figure) -> int:
    """About how many rows the legend takes over a chart of two columns' width, so that it takes none of the plot's."""
    rows, room = 0, 0
    for trace in figure.data:
        if trace.name and trace.showlegend is not False:
            wide = ENTRY + LETTER * len(trace.name)
            rows, room = (rows, room - wide) if wide <= room else (rows + 1, LEGEND_WIDTH - wide)
    return rows


def titled(figure: go.Figure, x: str, y: str) -> go.Figure:
    """Axis titles and the house layout, when all is drawn; colours of text and grid are set by the page."""
    figure.update_layout(
        template="none", margin={"l": 58, "r": 14, "t": 10, "b": 44}, hovermode="x unified",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "maxheight": 2 * HEIGHT},
        height=HEIGHT + ROW * max(0, legend_rows(figure) - ROWS_WITHIN),
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
        xaxis={"title": {"text": x}, "zeroline": False}, yaxis={"title": {"text": y}, "zeroline": False},
    )  # fmt: skip
    return figure


def against_kl(
    stories: Sequence[Story], rewards: Sequence[str], together: Mapping[str, CurveFit] | None = None
) -> list[Chart]:
    """Proxy and each gold along √KL with best-of-n beside: is PPO worth its KL, and where does gold turn?

    `together` has the curve through several runs that differ in their seed only, by reward.
    """
    charts: list[Chart] = []
    for reward in rewards:
        figure = go.Figure()
        for index, story in enumerate(stories):
            drawn = len(figure.data)
            _along(figure, stories, story, reward, colour_of(stories, index, PROXY if reward == "proxy" else GOLD))
            if len(stories) > 1:
                one_entry(figure.data[drawn:], story.run.name)
        if not figure.data:
            continue
        if together and reward in together:
            _together(figure, together[reward], len(stories))
        titled(figure, "√KL(policy ‖ original), √nats per completion", f"mean {reward}")
        figure.update_layout(height=figure.layout.height + 40)
        title = f"{reward[0].upper()}{reward[1:]} along KL"
        charts.append(Chart(f"along-{len(charts)}", title, _along_note(stories, reward), figure, (), False))
    return charts


def one_entry(traces: Sequence[Any], name: str) -> None:
    """One legend entry for all traces of a run: with several runs a colour means a run."""
    solid = [trace for trace in traces if trace.hoverinfo != "skip"]
    for trace in traces:
        trace.update(legendgroup=name, showlegend=trace is (solid[0] if solid else None))
    if solid:
        solid[0].name = name


def _along_note(stories: Sequence[Story], reward: str) -> str:
    """What a plot along KL shows and what its bands mean."""
    evaluations = [story.evaluation for story in stories if story.evaluation]
    qualities = {name for evaluation in evaluations for name in evaluation.qualities}
    kind = "gold, never read by the trainer"
    if reward == "proxy":
        texts = any(story.run.method in FROM_TEXTS for story in stories)
        kind = "the labels' reward, by whatever method they were learnt" if texts else "what the policy was trained on"
    elif reward in qualities:
        kind = "a quality that nobody labelled"
    scope = "this run only" if len(stories) == 1 else "each run alone"
    said = [f"{kind}; band: ± 1 standard error, {scope}"]
    if len(stories) > 1:
        said.append("dashed: best-of-n, dotted where few samples bear it")
    onsets = [evaluation.onsets.get(reward) for evaluation in evaluations]
    if len(stories) == 1 and any(onset and onset.status == "onset" for onset in onsets):
        said.append("red: where it is highest, 95 % interval")
    if any(evaluation.best_of_n_ties > TIES_THAT_MATTER for evaluation in evaluations):
        said.append("best-of-n: at most this KL, since rewards tie")
    return "; ".join(said)


def _together(figure: go.Figure, fit: CurveFit, runs: int) -> None:
    """The curve through all runs with the 95 % band over runs, then samples."""
    x, y, low, high = ([point[i] for point in fit.grid] for i in range(4))
    figure.add_scatter(
        x=x + x[::-1], y=high + low[::-1], fill="toself", fillcolor=rgba(OTHER, 0.16), line={"width": 0},
        mode="lines", hoverinfo="skip", showlegend=False,
    )  # fmt: skip
    line(figure, x, y, OTHER, f"all {runs} runs, 95 % band", "dot")


def human_chart(stories: Sequence[Story]) -> list[Chart]:
    """Blind human ratings along √KL with their 95 % intervals over samples and raters; no chart without ratings."""
    figure = go.Figure()
    for index, story in enumerate(stories):
        if story.human is None:
            continue
        rungs, colour = story.human.rungs, colour_of(stories, index, KL)
        figure.add_scatter(
            x=[r.sqrt_kl for r in rungs], y=[r.mean for r in rungs], mode="lines+markers",
            name=label(stories, story, "mean rating"), line={"color": colour, "width": 2}, marker={"size": 6},
            error_y={
                "array": [r.interval[1] - r.mean for r in rungs],
                "arrayminus": [r.mean - r.interval[0] for r in rungs], "thickness": 1.5, "width": 3,
            },
            text=[f"{r.samples} samples" for r in rungs], hovertemplate="%{y:.2f} (%{text})",
        )  # fmt: skip
    if not figure.data:
        return []
    titled(figure, "√KL(policy ‖ original), √nats per completion", "mean rating, 1 to 5")
    figure.update_layout(height=figure.layout.height + 40, showlegend=len(stories) > 1)
    return [Chart("human", "Human quality along KL", "blind ratings, 95 % intervals", figure, (), False)]


def _along(figure: go.Figure, stories: Sequence[Story], story: Story, reward: str, colour: str) -> None:
    if story.evaluation is None:
        if reward == "proxy":
            taken = story.run.rungs
            stored = [r.reward_se for r in taken]
            band(
                figure,
                [sqrt_kl(r.kl_per_completion) for r in taken],
                [r.reward for r in taken],
                stored,
                colour,
                story.run.method,
            )
        return
    rungs = story.evaluation.rungs
    means = [rung.reward(reward) for rung in rungs]
    values, errors = [m.mean if m else None for m in means], [m.se if m else None for m in means]
    band(figure, [r.sqrt_kl for r in rungs], values, errors, colour, label(stories, story, story.run.method))
    if len(stories) == 1:
        onset = story.evaluation.onsets.get(reward)
        _fitted(figure, onset.fit if onset else story.evaluation.ppo_fits.get(reward), onset)
    _frontier(figure, stories, story, reward)
    best = [b for b in story.evaluation.best_of_n if reward == "proxy" or reward in b.gold]
    for rows, dash in (([b for b in best if b.firm], "dash"), (_thin(best), "dot")):
        if rows:
            name = "best-of-n" if dash == "dash" else "best-of-n, few samples"
            figure.add_scatter(
                x=[math.sqrt(b.kl) for b in rows],
                y=[b.reward(reward)[0] for b in rows],
                error_y={
                    "array": [b.reward(reward)[1] for b in rows],
                    "thickness": 1,
                    "width": 0,
                },
                text=[f"n = {b.n:,}, resting on {b.effective_samples:.0f} samples" for b in rows],
                hovertemplate="%{y:.4g} (%{text})",
                mode="lines+markers",
                name=label(stories, story, name),
                line={"color": colour_of(stories, stories.index(story), BEST_OF_N), "width": 2, "dash": dash},
                marker={"size": 5},
            )


def _frontier(figure: go.Figure, stories: Sequence[Story], story: Story, reward: str) -> None:
    """The Gibbs policies' rewards: of the proxy the most that any policy can have, of a gold what it does there."""
    assert story.evaluation is not None  # its caller looked
    points = [p for p in story.evaluation.frontier if reward == "proxy" or reward in p.gold]
    if points:
        name = "most at this KL" if reward == "proxy" else "where the proxy is most"
        figure.add_scatter(
            x=[math.sqrt(p.kl) for p in points],
            y=[p.reward(reward)[0] for p in points],
            error_y={"array": [p.reward(reward)[1] for p in points], "thickness": 1, "width": 0},
            text=[f"β = {p.beta:.3g}, resting on {p.effective_samples:.0f} samples" for p in points],
            hovertemplate="%{y:.4g} (%{text})",
            mode="lines",
            name=label(stories, story, name),
            line={"color": colour_of(stories, stories.index(story), OTHER), "width": 5},
            opacity=0.35,
        )


def _fitted(figure: go.Figure, fit: CurveFit | None, onset: Onset | None) -> None:
    """The fitted curve unless its form is rejected, and the interval of its highest point where one is resolved."""
    if fit is not None and (fit.p_value is None or fit.p_value >= REJECTED):
        line(figure, [p[0] for p in fit.grid], [p[1] for p in fit.grid], OTHER, "fitted", "dot")
    if onset is not None and onset.status == "onset":
        low, high = onset.interval
        figure.add_vrect(x0=low, x1=high, fillcolor=rgba(ALARM, 0.14), line={"width": 0}, layer="below")


def _thin(best: Sequence[Any]) -> list[Any]:
    """The tail of the best-of-n curve that rests on few samples, joined to the last firm point."""
    thin = [i for i, b in enumerate(best) if not b.firm]
    return list(best[max(thin[0] - 1, 0) :]) if thin else []
