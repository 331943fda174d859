"""The page of a reward model: how far it may be trusted and what it pays for, in one offline HTML file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from rewards.reward_file import REWARD_FILE, read_report
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_json, write_text
from rlhf.foundation.tables import Report
from rlhf.inspection.display import display_text, script_json
from rlhf.inspection.figures import Chart

PAGE = Path(__file__).parent
BLUE, GREY = "#3f7fd9", "#9aa1ad"
WORD, TEXT = 60, 400  # characters shown
RATERS = 12  # named


def build_reward_page(directory: Path, output: Path | None = None, *, probe: Path | None = None) -> Path:
    """Write the page of the reward model in `directory` (default DIR/report.html) and return its path.

    `probe` is a directory of `rlhf probe`: its words and texts are shown too. Raises InputError when the directory
    holds no reward model, or `probe` no probe.
    """
    from plotly.offline import get_plotlyjs

    report = read_tested(directory)
    found = read_probe(probe) if probe else None
    charts = [chart for chart in (reliability(report), by_margin(report), learning_curve(report)) if chart]
    page = Environment(loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined)
    html = page.get_template("reward_page.html").render(
        title=directory.name or str(directory),
        kind=report["kind"],
        base=report["base_model"],
        facts=facts(report),
        weak=not report.get("better_than_chance", True),
        guards=report.get("guards", []),
        charts=[{"id": number, "title": title, "note": note} for number, (title, note, _) in enumerate(charts)],
        confidence=confidence_rows(report),
        words=word_rows(report),
        length=correlation(report),
        quantiles=quantiles(report),
        probe=found,
        configuration=json.dumps(
            {key: report[key] for key in ("labels", "comparisons", "training", "normalization") if report.get(key)},
            indent=2,
            ensure_ascii=False,
        ),
        style=(PAGE / "report.css").read_text(encoding="utf-8"),
        plotly=get_plotlyjs(),
        data=script_json([json.loads(figure.to_json()) for _, _, figure in charts]),
    )
    target = output or directory / "report.html"
    write_text(target, html)
    return target


def read_tested(directory: Path) -> Report:
    """reward_model.json with its held-out test. Raises InputError without one."""
    report = read_report(directory)
    if isinstance(report.get("held_out"), dict):
        return report
    raise InputError(
        str(directory / REWARD_FILE),
        got="no held-out test",
        expected="the file that `rlhf reward` wrote",
        fix="restore it from a copy, or fit the reward model anew",
    )


def reward_charts(directory: Path) -> dict[str, Chart]:
    """The page's charts by name. Raises InputError when the directory holds no reward model."""
    report = read_tested(directory)
    drawn = {"reliability": reliability(report), "margin": by_margin(report), "learning": learning_curve(report)}
    return {name: Chart(name, *one, by_iteration=False) for name, one in drawn.items() if one}


def read_probe(directory: Path) -> dict[str, Any]:
    """What `rlhf probe` found, for the page. Raises InputError when there is nothing."""
    path = directory / "probe.json"
    if not path.is_file():
        raise InputError(
            "--probe", got=f"no {path}", expected="a directory of `rlhf probe`", fix="run `rlhf probe` first"
        )
    value = read_json(path)
    words = {key: [worth_row(row) for row in value[key][:15]] for key in ("words_paid_for", "words_punished")}
    texts = {
        key: [
            {
                "score": f"{row['score']:.3f}",
                "start": f"{row['start_score']:.3f}",
                "edits": row["n_edits"],
                "text": display_text(row["completion"], TEXT),
            }
            for row in value[key][:8]
        ]
        for key in ("highest", "lowest")
    }
    return {**words, **texts, "n": value["attribution_samples"]}


def worth_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A word, what it is worth with its standard error, and the number of texts."""
    return {
        "word": display_text(row["word"], WORD),
        "worth": f"{row['worth']:+.3f} ± {row['standard_error']:.3f}",
        "n": row["n_texts"],
    }


def facts(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """The figures on top, each with its error and what it means."""
    held = report["held_out"]
    accuracy = held["accuracy"]
    rows = [
        {
            "label": "held-out accuracy",
            "value": f"{accuracy['share']:.1%}",
            "detail": f"{accuracy['low']:.1%} to {accuracy['high']:.1%} (95 %), n = {accuracy['n']}"
            + (f"; always the more frequent class: {held['majority_share']:.1%}" if "majority_share" in held else ""),
            "meaning": "share of unseen texts or pairs that it puts on the right side, neutral and tied ones left out",
        }
    ]
    if held.get("expected_calibration_error") is not None:
        rows.append(
            {
                "label": "calibration error",
                "value": f"{held['expected_calibration_error']:.3f}",
                "detail": f"{len(held.get('reliability', []))} bins of equal size",
                "meaning": "mean distance between the probability it states and the share people gave; 0 is perfect",
            }
        )
    source = report.get("labels") or report.get("comparisons")
    if source:
        count, unit = (source["answers"], "comparisons") if "answers" in source else (source["rows"], "labels")
        count = source.get("counted", count)
        by_label = ", ".join(f"{n} {label}" for label, n in source.get("by_label", {}).items())
        rows.append({"label": unit, "value": f"{count:,}", "detail": by_label, "meaning": "what it was fitted to"})
        rows += raters_fact(source)
    constants = report.get("normalization")
    if constants:
        rows.append(
            {
                "label": "score of base samples",
                "value": f"{constants['offset']:.2f} ± {constants['offset_se']:.2f}",
                "detail": f"standard deviation {constants['scale']:.2f}, n = {constants['n']:,}",
                "meaning": "mean with its standard error; PPO's advantage is (reward - mean) / standard deviation",
            }
        )
    return rows


def raters_fact(source: Mapping[str, Any]) -> list[dict[str, str]]:
    """How many raters count, what each one's labels weigh, and who was left out and why; nothing for a single one."""
    pooling = source.get("pooling")
    if not pooling or len(pooling["raters"]) + len(pooling["left_out"]) < 2:
        return []
    weighed = [
        f"{display_text(name, WORD)} right on about {rater['accuracy']:.0%}, {rater['weight_nats']:.1f} nats a label"
        for name, rater in pooling["raters"].items()
        if rater["accuracy"] is not None
    ]
    gone = [
        f"left out: {display_text(name, WORD)}, {kappa['why']} (kappa {kappa['value']:.2f} ± {kappa['se']:.2f}, "
        f"n = {kappa['shared']} shared tasks)"
        for name, kappa in pooling["left_out"].items()
    ]
    every = len(pooling["raters"]) + len(pooling["left_out"])
    return [
        {
            "label": "raters who count",
            "value": f"{len(pooling['raters'])} of {every}",
            "detail": "; ".join([*gone, *weighed][:RATERS]) or "every label counts the same",
            "meaning": f"pooled by {pooling['method']}, as `rlhf label status` shows it",
        }
    ]


Drawn = tuple[str, str, go.Figure]


def reliability(report: Mapping[str, Any]) -> Drawn | None:
    """Stated probability against the labelled share, with binomial errors."""
    bins = report["held_out"].get("reliability")
    if not bins:
        return None
    figure = go.Figure()
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line={"color": GREY, "dash": "dot"}, hoverinfo="skip")
    figure.add_scatter(
        x=[b["predicted"] for b in bins], y=[b["labelled"] for b in bins], mode="markers",
        marker={"color": BLUE, "size": 8}, customdata=[b["n"] for b in bins],
        error_y={"array": [binomial_error(b["labelled"], b["n"]) for b in bins], "thickness": 1.5, "width": 3},
        hovertemplate="stated %{x:.2f}, labelled %{y:.2f} (n = %{customdata})<extra></extra>",
    )  # fmt: skip
    titled(figure, "stated P(target)", "labelled share")
    return "Does it mean what it says?", "held-out texts in bins of equal size, ± one standard error", figure


def binomial_error(share: float, count: int) -> float:
    """Standard error of a share, with one answer added to each side so that 0 and 1 have one too."""
    smoothed = (share * count + 1) / (count + 2)
    return math.sqrt(smoothed * (1 - smoothed) / count)


def by_margin(report: Mapping[str, Any]) -> Drawn | None:
    """Accuracy by the size of the log-odds."""
    rows = report.get("trust", {}).get("accuracy_by_margin")
    if not rows:
        return None
    figure = go.Figure()
    shares = [row["accuracy"] for row in rows]
    figure.add_scatter(
        x=[f"{row['log_odds_from']:.1f} to {row['log_odds_to']:.1f}" for row in rows],
        y=[100 * s["share"] for s in shares], mode="markers", marker={"color": BLUE, "size": 9},
        error_y={
            "array": [100 * (s["high"] - s["share"]) for s in shares],
            "arrayminus": [100 * (s["share"] - s["low"]) for s in shares], "thickness": 1.5, "width": 4,
        },
        customdata=[s["n"] for s in shares], hovertemplate="%{y:.1f} % (n = %{customdata})<extra></extra>",
    )  # fmt: skip
    titled(figure, "|log-odds| of a text", "accuracy, %")
    return "Where is it right?", "by how sure it is; 95 % intervals", figure


def learning_curve(report: Mapping[str, Any]) -> Drawn | None:
    """Accuracy by number of labelled texts, and the ceiling that agreement sets."""
    curve = report.get("learning_curve")
    if not curve:
        return None
    points = curve["points"]
    figure = go.Figure()
    shares = [point["accuracy"] for point in points]
    figure.add_scatter(
        x=[point["texts"] for point in points], y=[100 * s["share"] for s in shares], mode="lines+markers",
        line={"color": BLUE, "width": 2},
        error_y={
            "array": [100 * (s["high"] - s["share"]) for s in shares],
            "arrayminus": [100 * (s["share"] - s["low"]) for s in shares], "thickness": 1.5, "width": 4,
        },
        hovertemplate="%{y:.1f} % with %{x} texts<extra></extra>",
    )  # fmt: skip
    titled(figure, "labelled texts", "held-out accuracy, %")
    gain = curve["next_gain"]
    low, middle, high = (f"{100 * gain[key]:+.1f}" for key in ("low", "gain", "high"))
    note = f"95 % intervals; the next {gain['labels']} labels would bring {middle} points ({low} to {high})"
    return "Would more labels help?", note, figure


def titled(figure: go.Figure, x: str, y: str) -> None:
    """Axis titles and the page's plain look."""
    figure.update_layout(
        xaxis_title=x, yaxis_title=y, showlegend=False, height=320, margin={"l": 56, "r": 16, "t": 12, "b": 48}
    )


def confidence_rows(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """Accuracy where annotators agreed and where they did not."""
    rows = report.get("trust", {}).get("accuracy_by_annotator_confidence", {})
    return [
        {
            "name": name,
            "share": f"{row['share']:.1%}",
            "interval": f"{row['low']:.1%} to {row['high']:.1%}",
            "n": f"{row['n']:,}",
        }
        for name, row in rows.items()
        if row
    ]


def word_rows(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """Common words and how much higher texts with them score."""
    return [
        {
            "word": display_text(row["word"], WORD),
            "difference": f"{row['difference']:+.3f} ± {row['standard_error']:.3f}",
            "n": f"{row['n_with']:,}",
        }
        for row in report.get("trust", {}).get("common_words", [])
    ]


def correlation(report: Mapping[str, Any]) -> str:
    """The score's correlation with length, in words."""
    row = report.get("trust", {}).get("correlation_with_length_in_words")
    if not row:
        return ""
    return f"r = {row['r']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f}, 95 %), n = {row['n']:,} base samples"


def quantiles(report: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    """Quantiles of the score on base samples."""
    row = report.get("trust", {}).get("scores_on_base_samples")
    return [(f"{key} %", f"{value:.3f}") for key, value in row["quantiles"].items()] if row else []
