"""A chart of the report drawn for a paper: plotly's figure through matplotlib, one column wide, text of 8 points.

Drawn are the parts our charts are made of: lines, steps, markers, bands, error bars, stacked bars, lines and
rectangles across the axes, notes, axes of numbers and of words.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from rlhf.inspection.display import display_text

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.transforms import Transform

Format = Literal["svg", "pdf", "png"]
WIDTH, HEIGHT = 3.5, 2.3  # inches: a column of a two-column page; the legend comes on top
POINTS = 0.6  # of a line's or marker's pixel in the report
STYLE: Any = {
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 8, "axes.labelsize": 8,
    "xtick.labelsize": 8, "ytick.labelsize": 8, "legend.fontsize": 8, "text.parse_math": False,
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6, "axes.edgecolor": "#555555",
    "xtick.color": "#555555", "ytick.color": "#555555", "xtick.labelcolor": "#222222", "ytick.labelcolor": "#222222",
    "xtick.major.width": 0.6, "ytick.major.width": 0.6, "xtick.major.size": 2.5, "ytick.major.size": 2.5,
    "axes.grid": True, "grid.color": "#e6e6e6", "grid.linewidth": 0.5, "axes.axisbelow": True,
    "axes.unicode_minus": True, "pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "rlhf", "savefig.dpi": 300,
    "figure.dpi": 100,
}  # fmt: skip
DASHES: Mapping[str | None, Any] = {
    None: "-",
    "solid": "-",
    "dash": (0, (5, 2.5)),
    "dot": (0, (1.2, 1.8)),
    "dashdot": "-.",
}
LEGEND: Mapping[str, Any] = {
    "frameon": False,
    "borderaxespad": 0.2,
    "handlelength": 1.8,
    "handletextpad": 0.5,
    "columnspacing": 1.2,
}
LONGEST, UPRIGHT = 48, 32  # characters on one line, across the figure and along its height
TICKS = 6


def printed(plotly: go.Figure, quantity: str = "") -> Figure:
    """The figure as matplotlib's; call within `rc_context(STYLE)`. `quantity` stands before the y axis's title."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    FigureCanvasAgg(figure)  # it measures texts
    axes = figure.add_subplot()
    x, y = plotly.layout.xaxis, plotly.layout.yaxis
    axes.set_xlabel(_in_lines(x.title.text or ""))
    axes.set_ylabel(_in_lines(",\n".join(filter(None, (quantity, y.title.text))), UPRIGHT))
    entries = _draw_traces(axes, plotly)
    for shape in plotly.layout.shapes:
        _draw_shape(axes, shape)
    for note in plotly.layout.annotations:
        _draw_note(axes, note)
    _limit(axes, plotly)
    wanted = plotly.layout.showlegend
    if entries and (wanted or (wanted is None and len(entries) > 1)):
        _draw_legend(figure, entries)
    return figure


def colour_of(text: str | None) -> Any:
    """A colour of plotly's (`#rrggbb`, `rgba(r,g,b,a)`) as matplotlib takes it."""
    found = re.fullmatch(r"rgba\((\d+),(\d+),(\d+),([\d.]+)\)", text or "#444444")
    return (*(int(part) / 255 for part in found.groups()[:3]), float(found[4])) if found else (text or "#444444")


Entry = tuple["Line2D | Patch", str]


def _draw_traces(axes: Axes, plotly: go.Figure) -> list[Entry]:
    """Draw every trace; what the legend says of them."""
    entries: list[Entry] = []
    heights: dict[Any, float] = {}  # of stacked bars, by x
    for trace in plotly.data:
        handle = _draw_bars(axes, trace, heights) if trace.type == "bar" else _draw_scatter(axes, trace)
        if handle is not None and trace.name and trace.showlegend is not False:
            entries.append((handle, trace.name))
    return entries


def _draw_bars(axes: Axes, trace: Any, heights: dict[Any, float]) -> Patch:
    from matplotlib.patches import Patch

    x, y = list(trace.x), [value or 0.0 for value in trace.y]
    apart = min((b - a for a, b in pairwise(x) if b > a), default=1.0)
    colour = colour_of(trace.marker.color)
    axes.bar(x, y, 0.8 * apart, [heights.get(at, 0.0) for at in x], color=colour, linewidth=0)
    heights |= {at: heights.get(at, 0.0) + value for at, value in zip(x, y, strict=True)}
    return Patch(color=colour, linewidth=0)


def _draw_scatter(axes: Axes, trace: Any) -> Line2D | None:
    """Lines, markers, error bars, or a filled outline, which has no entry in a legend."""
    x, y = list(trace.x), [math.nan if value is None else value for value in trace.y]
    if trace.fill == "toself":
        axes.fill(x, y, color=colour_of(trace.fillcolor), linewidth=0)
        return None
    colour = colour_of(trace.line.color or trace.marker.color)
    mode = trace.mode or "lines"
    (drawn,) = axes.plot(
        x, y, color=colour,
        linestyle=DASHES.get(trace.line.dash, "-") if "lines" in mode else "none",
        linewidth=POINTS * (trace.line.width or 2), drawstyle="steps-post" if trace.line.shape == "hv" else "default",
        marker="o" if "markers" in mode else "none", markersize=POINTS * (trace.marker.size or 6), markeredgewidth=0,
    )  # fmt: skip
    above = trace.error_y.array
    if above is not None:
        below = above if trace.error_y.arrayminus is None else trace.error_y.arrayminus
        width, cap = POINTS * (trace.error_y.thickness or 2), POINTS * (trace.error_y.width or 0)
        axes.errorbar(x, y, [list(below), list(above)], fmt="none", ecolor=colour, elinewidth=width, capsize=cap)
    return drawn


def _draw_shape(axes: Axes, shape: Any) -> None:
    """A line or rectangle, in the data's coordinates or across the axes."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle

    where = _places(axes, shape)
    if shape.type == "line":
        axes.add_artist(
            Line2D(
                (shape.x0, shape.x1), (shape.y0, shape.y1), transform=where, color=colour_of(shape.line.color),
                linewidth=0.8 * (shape.line.width or 1), linestyle=DASHES.get(shape.line.dash, "-"), zorder=1.5,
            )
        )  # fmt: skip
        return
    size = (shape.x1 - shape.x0, shape.y1 - shape.y0)
    colour = colour_of(shape.fillcolor)
    axes.add_patch(Rectangle((shape.x0, shape.y0), *size, transform=where, color=colour, linewidth=0, zorder=0.4))


def _draw_note(axes: Axes, note: Any) -> None:
    across = {"left": "left", "right": "right"}.get(note.xanchor, "center")
    upright = {"top": "top", "bottom": "bottom"}.get(note.yanchor, "center")
    colour = colour_of(note.font.color) if note.font.color else "#222222"
    beside = {"left": 2, "right": -2}.get(across, 0)
    axes.annotate(
        display_text(note.text, 200), (note.x, note.y), (beside, 1 if upright == "bottom" else 0),
        xycoords=_places(axes, note), textcoords="offset points", ha=across, va=upright, color=colour,
        annotation_clip=True,  # one far outside the axes would take all their room
    )  # fmt: skip


def _places(axes: Axes, thing: Any) -> Transform:
    """Data coordinates, or fractions of the axes where plotly has them so."""
    from matplotlib.transforms import blended_transform_factory

    def along(reference: str | None) -> Transform:
        fraction = reference is not None and (reference == "paper" or reference.endswith("domain"))
        return axes.transAxes if fraction else axes.transData

    return blended_transform_factory(along(thing.xref), along(thing.yref))


def _limit(axes: Axes, plotly: go.Figure) -> None:
    """Ranges and ticks, once everything is drawn."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        described = plotly.layout[f"{name}axis"]
        values = [value for trace in plotly.data for value in trace[name] if value is not None]
        if any(isinstance(value, str) for value in values):
            axes.set(**{f"{name}margin": 0.12})
            axis.set_tick_params(rotation=30 if len({*values}) > 4 else 0)
        else:
            whole = name == "x" and all(float(value).is_integer() for value in values)
            axis.set_major_locator(MaxNLocator(TICKS, integer=whole, steps=[1, 2, 2.5, 5, 10]))
        if described.tickformat:
            axis.set_major_formatter(FuncFormatter(lambda value, _, form=described.tickformat: format(value, form)))
        if described.range is not None:
            axes.set(**{f"{name}lim": described.range})
        elif described.rangemode == "tozero":
            axes.set(**{f"{name}lim": (0, None)})


def _draw_legend(figure: Figure, entries: Sequence[Entry]) -> None:
    """Above the axes, in as many columns as fit; the figure grows by its height, so that the axes keep theirs."""
    handles = [handle for handle, _ in entries]
    for columns in range(min(len(entries), 4), 0, -1):
        # A label that begins with _ would be left out by matplotlib: the texts are put in afterwards.
        drawn = figure.legend(handles, ["x"] * len(entries), loc="outside upper left", ncols=columns, **LEGEND)
        for text, (_, name) in zip(drawn.get_texts(), entries, strict=True):
            text.set_text(_in_lines(name))
        box = drawn.get_window_extent()
        if columns == 1 or box.width <= 0.97 * WIDTH * figure.dpi:
            figure.set_size_inches(WIDTH, HEIGHT + box.height / figure.dpi)
            return
        drawn.remove()


def _in_lines(text: str, width: int = LONGEST) -> str:
    """A text in lines that fit, safe to look at; names of files have no spaces to break at."""
    shown = display_text(text, 200).split("\n")
    return "\n".join(part for line in shown for part in textwrap.wrap(line, width))
