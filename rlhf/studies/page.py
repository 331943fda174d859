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
from rlhf.inspection.curve_fits import CurveFit
from rlhf.inspection.display import script_json
from rlhf.inspection.figures import GOLD, PALETTE, Chart, rgba, titled
from rlhf.inspection.scoring import PROXY
from rlhf.studies.groups import Group, gold_band

if TYPE_CHECKING:
    from rlhf.inspection.overoptimisation import Course, Onset

BAND = "over seeds and samples, over samples alone where a group has one cell"
DASHES = ("solid", "dash", "dot", "dashdot")
ROOT_KL = "√KL(policy ‖ original), √nats per completion"


def study_charts(groups: Sequence[Group]) -> dict[str, Chart]:
    """By name: a chart a factor that varies, groups coloured by its value; then of each its gold and its proxies."""
    factors = [name for name, _ in groups[0].values if len({dict(group.values)[name] for group in groups}) > 1]
    bands = [gold_band(group) for group in groups]
    charts = {f"gold by {name}": _by_factor(name, groups, bands) for name in factors}
    charts |= {f"coefficients by {name}": chart for name in factors if (chart := coefficients_by(name, groups))}
    for group, band in zip(groups, bands, strict=True):
        charts |= {f"gold of {group.name}": _gold_of(group, band), f"proxies of {group.name}": _proxies_of(group)}
    return charts


def _by_factor(name: str, groups: Sequence[Group], bands: Sequence[Any]) -> Chart:
    figure, values = go.Figure(), list(dict.fromkeys(dict(group.values)[name] for group in groups))
    rests = list(dict.fromkeys(_others(name, group) for group in groups))
    for group, band in zip(groups, bands, strict=True):
        colour = PALETTE[values.index(dict(group.values)[name]) % len(PALETTE)]
        line = {"color": colour, "dash": DASHES[rests.index(_others(name, group)) % len(DASHES)]}
        _shade(figure, band, colour)
        figure.add_scatter(x=band.d, y=band.mean, mode="lines", line=line, name=group.name)
    titled(figure, ROOT_KL, "gold")
    note = f"a line a group, coloured by {name}, dashed by the other factors; bands: 95 % {BAND}"
    return Chart(f"by-{name}", f"Gold along √KL by {name}", note, figure, by_iteration=False)


def _others(name: str, group: Group) -> str:
    """A group's values of the other factors, in words."""
    return ", ".join(f"{other} {value}" for other, value in group.values if other != name)


def coefficients_by(name: str, groups: Sequence[Group]) -> Chart | None:
    """α and β of gold's joint fit against a factor whose values are numbers above 0, on a logarithmic axis; a pair of
    lines for each combination of the others. None where the factor is no such, or no line has two points."""
    lines: dict[str, list[tuple[float, CurveFit]]] = {}
    for group in groups:
        value, fit = dict(group.values)[name], group.onset().fit
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
            return None
        if fit and fit.form == "rl":
            lines.setdefault(_others(name, group), []).append((float(value), fit))
    figure = go.Figure()
    for number, (others, points) in enumerate(one for one in lines.items() if len(one[1]) > 1):
        at, fits = [value for value, _ in sorted(points, key=_first)], [fit for _, fit in sorted(points, key=_first)]
        for letter, dash in (("α", "solid"), ("β", "dash")):
            of = {"α": [(f.alpha, f.alpha_se) for f in fits], "β": [(f.beta, f.beta_se) for f in fits]}[letter]
            figure.add_scatter(
                x=at, y=[value for value, _ in of], error_y={"array": [error for _, error in of]},
                mode="lines+markers", line={"color": PALETTE[number % len(PALETTE)], "dash": dash},
                name=f"{letter} {others}".strip(),
            )  # fmt: skip
    if not figure.data:
        return None
    titled(figure, f"{name} (logarithmic)", "α, β: gold per √nat")
    figure.update_xaxes(type="log")
    note = (
        "gold is R₀ + d(α - β log d), d = √KL; ± 1 standard error over seeds and samples, over samples alone where a "
    )
    title = f"Coefficients of gold by {name}"
    return Chart(f"coefficients-{name}", title, f"{note}group has one cell", figure, by_iteration=False, quantity=name)


def _first(point: tuple[float, CurveFit]) -> float:
    return point[0]


def _gold_of(group: Group, band: Any) -> Chart:
    figure = go.Figure()
    _shade(figure, band, GOLD)
    figure.add_scatter(x=band.d, y=band.mean, mode="lines", line={"color": GOLD, "width": 3}, name="mean")
    _each(figure, group, group.courses())
    titled(figure, ROOT_KL, "gold")
    note = f"thin: each cell; band: 95 % {BAND}"
    return Chart(f"gold-{group.name}", f"Gold: {group.name}", note, figure, by_iteration=False)


def _proxies_of(group: Group) -> Chart:
    figure = go.Figure()
    _each(figure, group, group.courses(PROXY))
    titled(figure, ROOT_KL, "proxy")
    note = "each cell by its own reward model, whose scale no other has"
    return Chart(f"proxy-{group.name}", f"Proxies: {group.name}", note, figure, by_iteration=False)


def _each(figure: go.Figure, group: Group, courses: Sequence[Course]) -> None:
    for number, (cell, one) in enumerate(zip(group.cells, courses, strict=True)):
        line = {"color": PALETTE[number % len(PALETTE)], "width": 1}
        name = f"seed {cell.stage.values['seed']}"
        figure.add_scatter(x=one.d, y=one.means, mode="lines", line=line, name=name)


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
    html = page.get_template("studies_page.html").render(
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
    seen = sum(cell.onset().status == "onset" for cell in group.cells)
    return {
        "name": group.name,
        "cells": len(group.cells),
        "onsets": f"{seen} of {len(group.cells)}",
        "onset": onset_text(onset),
        "fall": f"{onset.fall:.3f} ± {onset.fall_se:.3f}",
        "degree": degree.text() if (degree := group.degree()) else "gold gained nothing",
        "collapsed": f"{len(collapsed)}, from {min(collapsed):.1f} nats" if collapsed else "0",
    }


def onset_text(onset: Onset) -> str:
    """Where gold is highest over all cells of a group, nats, and whether that is an onset."""
    if onset.status == "constant":
        return "the same on every sample"
    low, high = (value**2 for value in onset.interval)
    where = f"{onset.d**2:.1f} nats ({low:.1f} to {high:.1f})"
    return where if onset.status == "onset" else f"{onset.status.replace('_', ' ')}; highest at {where}"
