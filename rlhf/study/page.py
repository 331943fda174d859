"""The page of a study: Gao's figure for each factor and each group, the joint onsets, and where the tables are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from plotly import graph_objects as go

from rlhf.foundation.files import write_text
from rlhf.inspection import report
from rlhf.inspection.display import script_json
from rlhf.inspection.figures import GOLD, PALETTE, Chart, rgba, titled
from rlhf.study.groups import Group, gold_band

if TYPE_CHECKING:
    from rlhf.inspection.overoptimisation import Onset

ROOT_KL = "√KL(policy ‖ original), √nats per completion"


def study_charts(groups: Sequence[Group]) -> dict[str, Chart]:
    """By name: a chart a factor, all groups coloured by its value; then a chart a group with its cells and proxies."""
    factors = [name for name, _ in groups[0].values] if groups else []
    bands = [gold_band(group) for group in groups]
    charts = {f"gold by {name}": _by_factor(name, groups, bands) for name in factors}
    return charts | {f"group {group.name}": _of_group(group, band) for group, band in zip(groups, bands, strict=True)}


def _by_factor(name: str, groups: Sequence[Group], bands: Sequence[Any]) -> Chart:
    figure, values = go.Figure(), list(dict.fromkeys(dict(group.values)[name] for group in groups))
    for group, band in zip(groups, bands, strict=True):
        value = dict(group.values)[name]
        colour = PALETTE[values.index(value) % len(PALETTE)]
        _shade(figure, band, colour)
        figure.add_scatter(x=band.d, y=band.mean, mode="lines", line={"color": colour}, name=group.name)
    titled(figure, ROOT_KL, "gold")
    note = f"a line a group, coloured by {name}; bands: 95 % over seeds and samples"
    return Chart(f"by-{name}", f"Gold along √KL by {name}", note, figure, by_iteration=False, quantity="gold")


def _of_group(group: Group, band: Any) -> Chart:
    figure = go.Figure()
    _shade(figure, band, GOLD)
    figure.add_scatter(x=band.d, y=band.mean, mode="lines", line={"color": GOLD, "width": 3}, name="gold")
    for number, (gold, proxy) in enumerate(zip(group.courses(), group.courses("proxy"), strict=True)):
        seed = f"seed {group.cells[number].stage.values['seed']}"
        figure.add_scatter(
            x=gold.d,
            y=gold.means,
            mode="lines",
            line={"color": GOLD, "width": 1},
            name=f"gold, {seed}",
            showlegend=False,
        )
        figure.add_scatter(
            x=proxy.d, y=proxy.means, mode="lines", name=f"proxy, {seed}", yaxis="y2",
            line={"color": PALETTE[0], "width": 1, "dash": "dot"}, showlegend=number == 0,
        )  # fmt: skip
    titled(figure, ROOT_KL, "gold")
    figure.update_layout(yaxis2={"overlaying": "y", "side": "right", "title": {"text": "proxy (each its own)"}})
    note = "thin: each cell; dotted: each cell's own proxy, never averaged; band: 95 % over seeds and samples"
    return Chart(f"group-{group.name}", group.name, note, figure, by_iteration=False, quantity="gold")


def _shade(figure: go.Figure, band: Any, colour: str) -> None:
    figure.add_scatter(
        x=[*band.d, *band.d[::-1]], y=[*band.high, *band.low[::-1]], fill="toself", fillcolor=rgba(colour, 0.15),
        line={"width": 0}, hoverinfo="skip", showlegend=False,
    )  # fmt: skip


def build_page(root: Path, groups: Sequence[Group], missing: Sequence[str]) -> Path:
    """Write ROOT/report.html, one file without a network, and return its path."""
    from plotly.offline import get_plotlyjs

    charts = list(study_charts(groups).values())
    folder = Path(report.__file__).parent
    page = Environment(
        loader=FileSystemLoader([Path(__file__).parent, folder]), autoescape=True, undefined=StrictUndefined
    )
    html = page.get_template("study_page.html").render(
        title=root.name or str(root),
        groups=[group_row(group) for group in groups],
        missing=list(missing),
        charts=[{"id": number, "title": chart.title, "note": chart.note} for number, chart in enumerate(charts)],
        style=(folder / "report.css").read_text(encoding="utf-8"),
        plotly=get_plotlyjs(),
        data=script_json([json.loads(chart.figure.to_json()) for chart in charts]),
    )
    write_text(root / "report.html", html)
    return root / "report.html"


def group_row(group: Group) -> dict[str, Any]:
    """A line of the table of groups."""
    onset = group.onset()
    collapsed = [cell.collapsed_from for cell in group.cells if cell.collapsed_from is not None]
    seen = sum(cell.evaluation.onsets[cell.gold].status == "onset" for cell in group.cells)
    return {
        "name": group.name,
        "cells": len(group.cells),
        "onsets": f"{seen} of {len(group.cells)}",
        "onset": onset_text(onset),
        "fall": f"{onset.fall:.3f} ± {onset.fall_se:.3f}",
        "collapsed": f"{len(collapsed)}, from {min(collapsed):.1f} nats" if collapsed else "0",
    }


def onset_text(onset: Onset) -> str:
    """Where gold is highest over all cells of a group, nats, and whether that is an onset."""
    low, high = (value**2 for value in onset.interval)
    where = f"{onset.d**2:.1f} nats ({low:.1f} to {high:.1f})"
    return where if onset.status == "onset" else f"{onset.status.replace('_', ' ')}; highest at {where}"
