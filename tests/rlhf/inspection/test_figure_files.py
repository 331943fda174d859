"""Figures for a paper: what is in the files, that they are the same every time, and what is drawn."""

from __future__ import annotations

import json
import re
import struct
import warnings
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import plotly.graph_objects as go
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from rlhf.commands.inspect import main
from rlhf.foundation.errors import InputError
from rlhf.inspection.charts import named_charts
from rlhf.inspection.evaluation import evaluate_run
from rlhf.inspection.figure_files import file_names, planned_figures
from rlhf.inspection.figures import Chart, rgba, titled
from rlhf.inspection.opened_run import OpenedRun
from rlhf.inspection.print_figure import STYLE, WIDTH, colour_of, printed
from rlhf.whole_loop.inspect_runs import inspect

from .conftest import MakeRun


def texts_of(path: Path) -> list[str]:
    """The texts of an SVG file; a file that is no XML fails here."""
    found = ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(node.itertext()).strip() for node in found]


def drawn(figure: go.Figure, quantity: str = "") -> Figure:
    with matplotlib.rc_context(STYLE):
        return printed(titled(figure, "step", "points"), quantity)


@pytest.fixture
def run(make_run: MakeRun) -> Path:
    run = make_run(samples=40)
    evaluate_run(run)
    return run


def test_every_chart_is_a_file_with_its_legend_and_axes(run: Path, tmp_path: Path) -> None:
    files = inspect(str(run), figures=str(tmp_path)).figures
    charts = named_charts(run)
    assert [path.name for path in files] == [f"{name}.svg" for name in file_names(list(charts))]
    for path, chart in zip(files, charts.values(), strict=True):
        texts = texts_of(path)
        entries = {t.name for t in chart.figure.data if t.name and t.showlegend is not False}
        assert entries <= {*texts} or len(entries) == 1, path.name
        assert chart.figure.layout.xaxis.title.text in texts
        assert chart.figure.layout.yaxis.title.text in texts


def test_titles_and_captions_stand_beside(run: Path, tmp_path: Path) -> None:
    OpenedRun(run).save_figures(tmp_path)
    said = json.loads((tmp_path / "figures-svg.json").read_text())
    assert said["drawn_of"] == [str(run)]
    assert said["figures"]["reward.svg"] == {"title": "Reward", "caption": "mean ± standard error; gold at the rungs"}


def few(run: Path) -> dict[str, Chart]:
    return {name: chart for name, chart in named_charts(run).items() if name in ("seconds", "gold along KL")}


@pytest.mark.parametrize("kind", ["svg", "pdf", "png"])
def test_the_same_run_makes_the_same_bytes(run: Path, tmp_path: Path, kind: Any) -> None:
    first, second = (
        [path.read_bytes() for path in planned_figures(few(run), tmp_path / folder, kind).write()] for folder in "ab"
    )
    assert first == second
    assert not [content for content in first if re.search(rb"CreationDate|<dc:date>", content)]


def test_pdf_holds_its_fonts(run: Path, tmp_path: Path) -> None:
    content = planned_figures(few(run), tmp_path, "pdf").write()[0].read_bytes()
    assert b"/FontFile2" in content  # TrueType, embedded
    assert b"/Type3" not in content


def test_png_is_a_column_wide_at_300_dots_an_inch(run: Path, tmp_path: Path) -> None:
    for path in planned_figures(few(run), tmp_path, "png").write():
        assert struct.unpack(">I", path.read_bytes()[16:20])[0] == round(WIDTH * 300)


def test_formats_stand_beside_each_other(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "figures"
    main([str(run), "--figures", str(folder)])
    main([str(run), "--figures", str(folder), "--format", "png"])
    captions = f"{folder}/figures-png.json"
    said = f"figures: 11 files in {folder}, titles and captions in {captions}"
    assert capsys.readouterr().out.splitlines()[-1] == said
    assert {path.suffix for path in folder.iterdir()} == {".svg", ".png", ".json"}


def test_several_runs_are_drawn_together(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [str(make_run(name, samples=10, seed=seed)) for seed, name in enumerate(("joy", "_grief $x$ <b>"))]
    inspect(runs, figures=str(tmp_path))
    assert {"joy", "_grief $x$ <b>"} <= {*texts_of(tmp_path / "entropy.svg")}
    assert {"entropy,", "nats per token"} <= {*texts_of(tmp_path / "entropy.svg")}


def test_no_letter_is_below_eight_points_and_nothing_is_cut(run: Path) -> None:
    for name, chart in named_charts(run).items():
        with matplotlib.rc_context(STYLE):
            figure = printed(chart.figure, chart.quantity)
            figure.draw_without_rendering()
            inches = figure.get_tightbbox()
        assert min(text.get_fontsize() for text in figure.findobj(Text)) >= 8
        assert min(inches.x0, inches.y0) >= -0.02, name
        assert inches.x1 <= WIDTH + 0.02, name
        assert inches.y1 <= figure.get_figheight() + 0.02, name


def test_a_long_name_is_broken_and_the_axes_keep_their_height() -> None:
    figure = go.Figure()
    for name in ("a" * 100, "b"):
        figure.add_scatter(x=[0, 1], y=[0, 1], name=name, mode="lines")
    (legend,) = drawn(figure).legends
    assert [len(line) for line in legend.get_texts()[0].get_text().split("\n")] == [48, 48, 4]
    assert drawn(figure).get_figheight() > drawn(go.Figure(figure.data[1:])).get_figheight()


def test_long_and_hostile_titles_of_axes_stay_on_the_page() -> None:
    figure = titled(go.Figure(go.Scatter(x=[0], y=[1])), "step", f"mean \x07{'long ' * 12}")
    with matplotlib.rc_context(STYLE):
        lines = printed(figure).axes[0].get_ylabel().split("\n")
    assert lines[0] == "mean ␇long long long long long"
    assert max(map(len, lines)) <= 32


def test_lines_dashes_gaps_and_steps() -> None:
    figure = go.Figure()
    figure.add_scatter(x=[0, 1, 2], y=[1.0, None, 3.0], mode="lines", line={"color": "#3f7fd9", "dash": "dot"})
    figure.add_scatter(x=[0, 1], y=[1, 2], mode="lines+markers", line={"shape": "hv"})
    first, second = drawn(figure).axes[0].lines
    assert first.get_color() == "#3f7fd9"
    assert first.is_dashed()
    assert [value == value for value in first.get_ydata()] == [True, False, True]
    assert (second.get_drawstyle(), second.get_marker()) == ("steps-post", "o")


def test_a_band_is_filled_and_stands_in_no_legend() -> None:
    figure = go.Figure()
    figure.add_scatter(x=[0, 1, 1, 0], y=[1, 1, 0, 0], fill="toself", fillcolor=rgba("#3f7fd9", 0.5), name="band")
    (patch,) = drawn(figure).axes[0].patches
    assert patch.get_facecolor() == pytest.approx((0x3F / 255, 0x7F / 255, 0xD9 / 255, 0.5))
    assert patch.get_xy()[:4].tolist() == [[0, 1], [1, 1], [1, 0], [0, 0]]
    assert not drawn(figure).legends


def test_error_bars_reach_as_far_as_they_say() -> None:
    figure = go.Figure()
    figure.add_scatter(x=[0], y=[10.0], mode="markers", error_y={"array": [2.0], "arrayminus": [1.0]})
    (bars,) = drawn(figure).axes[0].collections
    assert bars.get_segments()[0].tolist() == [[0.0, 9.0], [0.0, 12.0]]


def test_bars_are_stacked() -> None:
    figure = go.Figure()
    figure.add_bar(x=[0, 1], y=[1.0, 2.0], name="a")
    figure.add_bar(x=[0, 1], y=[3.0, None], name="b")
    figure.add_bar(x=[0, 1], y=[1.0, 1.0], name="c")
    bars = drawn(figure).axes[0].patches
    assert [(bar.get_y(), bar.get_height()) for bar in bars] == [(0, 1), (0, 2), (1, 3), (2, 0), (4, 1), (2, 1)]


def test_lines_and_rectangles_across_and_notes() -> None:
    figure = go.Figure(go.Scatter(x=[0, 10], y=[0, 1]))
    figure.add_vrect(x0=2, x1=4, fillcolor="rgba(0,0,0,0.1)").add_hline(y=0.5, line={"dash": "dash"})
    figure.add_annotation(x=0, xref="paper", y=0.5, text="budget", showarrow=False, xanchor="left", yanchor="bottom")
    axes = drawn(figure).axes[0]
    (rectangle,) = axes.patches
    left, right = (axes.transData.transform((x, 0))[0] for x in (2, 4))
    assert rectangle.get_window_extent().bounds == pytest.approx((left, axes.bbox.y0, right - left, axes.bbox.height))
    line = axes.lines[-1]
    assert [*line.get_ydata()] == [0.5, 0.5]
    ends = line.get_transform().transform([(x, 0.5) for x in line.get_xdata()])[:, 0]
    assert ends.tolist() == pytest.approx([axes.bbox.x0, axes.bbox.x1])
    assert axes.texts[0].get_text() == "budget"


def test_ranges_and_ticks_in_per_cent() -> None:
    figure = titled(go.Figure(go.Scatter(x=[0, 1], y=[0.01, 0.04])), "step", "fraction")
    figure.update_yaxes(tickformat=".1%", range=[0, 0.05])
    with matplotlib.rc_context(STYLE):
        axes = printed(figure).axes[0]
    assert axes.get_ylim() == (0, 0.05)
    assert axes.yaxis.get_major_formatter()(0.02, 0) == "2.0%"


def test_the_unit_stands_below_the_quantity() -> None:
    assert drawn(go.Figure(go.Scatter(x=[0], y=[1])), "entropy").axes[0].get_ylabel() == "entropy,\npoints"
    assert drawn(go.Figure(go.Scatter(x=[0], y=[1]))).axes[0].get_ylabel() == "points"


def test_names_become_names_of_files() -> None:
    assert file_names(["proxy along KL", "Gold: a/b along KL", "gold a b along kl", "../..", "…"]) == [
        "proxy-along-kl",
        "gold-a-b-along-kl",
        "gold-a-b-along-kl-2",
        "figure",
        "figure-2",
    ]


def test_colours() -> None:
    assert (colour_of("rgba(255,0,51,0.25)"), colour_of("#123456")) == ((1.0, 0.0, 0.2, 0.25), "#123456")


def test_without_matplotlib_one_line_says_what_to_install(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlhf.inspection.figure_files.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"no matplotlib; expected the extra `figures`; pip install 'rlhf-ladder\[fig"):
        inspect(str(run), figures=str(tmp_path / "f"), tables=str(tmp_path / "t"))
    assert not [*tmp_path.glob("[ft]")]


def test_a_note_far_outside_the_axes_takes_no_room() -> None:
    """As the KL budget's does in a run that ended long before it."""
    figure = go.Figure(go.Scatter(x=[0, 1], y=[0.0, 0.3]))
    plain = drawn(go.Figure(figure))
    figure.add_annotation(x=0, xref="paper", y=10, text="budget 10 nats", showarrow=False, xanchor="left")
    figure.add_annotation(x=0, xref="paper", y=0.2, text="seen", showarrow=False, xanchor="left")
    noted = drawn(figure)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # "constrained_layout not applied because axes sizes collapsed to zero"
        for one in (plain, noted):
            one.canvas.draw()
    assert noted.axes[0].get_position().bounds == pytest.approx(plain.axes[0].get_position().bounds)
