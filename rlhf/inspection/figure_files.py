"""The charts of runs as files for a paper: SVG, PDF or PNG, the same bytes for the same run."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

from rlhf.foundation.errors import InputError
from rlhf.foundation.outputs import OwnFiles
from rlhf.inspection.figures import Chart
from rlhf.inspection.print_figure import STYLE, Format, printed

UNDATED: Mapping[Format, Mapping[str, Any]] = {
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
    "png": {"Software": None},
}


def planned_figures(
    charts: Mapping[str, Chart], directory: Path, format: Format = "svg", *, of: Sequence[str] = ()
) -> OwnFiles:
    """DIR/NAME.FORMAT for every chart, and titles and captions in DIR/figures-FORMAT.json; `write()` draws them.

    `of` names what they are drawn of. Raises InputError without matplotlib, and where a file that is not of an earlier
    call stands in the way.
    """
    if find_spec("matplotlib") is None:
        fix = "pip install 'rlhf-ladder[figures]'"
        raise InputError("--figures", got="no matplotlib", expected="the extra `figures`", fix=fix)
    files = zip(file_names(list(charts)), charts.values(), strict=True)
    named = {f"{name}.{format}": chart for name, chart in files}
    writers = {name: partial(_save, chart, format=format) for name, chart in named.items()}
    figures = {name: {"title": chart.title, "caption": chart.note} for name, chart in named.items()}
    about = {"drawn_of": list(of), "figures": figures}
    return OwnFiles("--figures", directory, f"figures-{format}.json", writers, about)


def file_names(charts: Sequence[str]) -> list[str]:
    """Names of charts as names of files: letters, digits and hyphens, each another one."""
    found: list[str] = []
    for chart in charts:
        base = re.sub(r"[\W_]+", "-", chart.lower()).strip("-")[:80] or "figure"
        others = (f"{base}-{number}" for number in count(2))
        found.append(base if base not in found else next(name for name in others if name not in found))
    return found


def _save(chart: Chart, path: Path, format: Format) -> None:
    from matplotlib import rc_context

    with rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in another script: boxes say so themselves
        printed(chart.figure, chart.quantity).savefig(path, format=format, metadata={**UNDATED[format]})
