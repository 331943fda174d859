"""A run as a notebook looks at it: tables as pandas frames, the report's charts as plotly figures, read when asked for.

So a run that is going on shows what it has by now.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_object
from rlhf.runs.frames import ladder_of, metrics_of, samples_of
from rlhf.runs.reading import Run, read_run, run_name

if TYPE_CHECKING:
    from pandas import DataFrame
    from plotly.graph_objects import Figure

    from rlhf.inspection.evaluation import Evaluation
    from rlhf.inspection.figures import Chart
    from rlhf.inspection.print_figure import Format

RewardFunction = Callable[..., Any]


class OpenedRun:
    """A run directory of `rlhf ppo`, as `PPOTrainer.train` returns it and `rlhf.open_run` opens it.

    `rewards` are the run's reward functions where they are in memory: `rlhf.evaluate` then needs no file of them.
    """

    def __init__(self, directory: str | Path, rewards: Sequence[RewardFunction] = ()) -> None:
        self.directory, self.rewards = Path(directory), list(rewards)

    def __fspath__(self) -> str:
        return str(self.directory)

    def __repr__(self) -> str:
        return f"<run {self.directory}>"

    @property
    def name(self) -> str:
        """What the run is called beside others: its directory's name."""
        return run_name(self.directory)

    @property
    def record(self) -> dict[str, Any]:
        """run.json: options, seed, versions, digests of the inputs, outcome. Raises InputError."""
        return read_object(self.directory / "run.json")

    @property
    def stop_reason(self) -> str | None:
        """Why the run ended, in words; None while it goes on."""
        return self.record.get("stop_reason")

    @property
    def metrics(self) -> DataFrame:
        """metrics.jsonl, a row an iteration; units in `.attrs["units"]`. Raises InputError before the first one."""
        return metrics_of(self._read())

    @property
    def ladder(self) -> DataFrame:
        """The rungs, from low KL to high; units in `.attrs["units"]`. Raises InputError."""
        return ladder_of(self._read())

    def samples(self, rung: str | None = None) -> DataFrame:
        """Samples stored with a rung, or with all of them (the column `rung` says which). Raises InputError.

        Row i has the same prompt and random numbers on every rung.
        """
        return samples_of(self._read(), rung)

    @property
    def evaluation(self) -> Evaluation | None:
        """What `rlhf.evaluate` found; None before it, or of rungs that are gone. Raises InputError for a torn file."""
        from rlhf.inspection.evaluation import stored_evaluation

        return stored_evaluation(self._read())

    @property
    def scores(self) -> DataFrame:
        """Mean, standard error and n of proxy, golds and qualities, a row a rung and reward; empty before evaluation.

        Units in `.attrs["units"]`. Raises InputError for a torn file.
        """
        from rlhf.inspection.table_files import scores_of

        return scores_of(self.evaluation)

    @property
    def figures(self) -> list[str]:
        """The names that `figure` takes."""
        return list(self._charts())

    def figure(self, name: str) -> Figure:
        """One of the report's charts. Raises InputError for a name that is not in `figures`."""
        charts = self._charts()
        if name not in charts:
            raise InputError("figure", got=name, expected=f"one of {', '.join(charts)}", fix="check its spelling")
        chart = charts[name]
        figure = chart.figure
        title = {"text": f"{chart.title}<br><sup>{chart.note}</sup>"}
        figure.update_layout(template="plotly_white", title=title, margin={"t": 90}, height=420)
        figure.update_layout(paper_bgcolor="white", plot_bgcolor="white", legend={"y": -0.25, "yanchor": "top"})
        return figure

    def save_figures(self, directory: str | Path, format: Format = "svg") -> list[Path]:
        """Every figure drawn for a paper, one column wide, as "svg", "pdf" or "png"; captions in figures-FORMAT.json.

        Raises InputError without matplotlib (the extra `figures`), and where another file stands in the way.
        """
        from rlhf.inspection.figure_files import planned_figures

        return planned_figures(self._charts(), Path(directory), format, of=[str(self.directory)]).write()

    def save_tables(self, directory: str | Path) -> list[Path]:
        """Metrics, ladder, samples and evaluation as CSV and Parquet, with units in tables.json.

        Raises InputError where another file stands in the way.
        """
        from rlhf.inspection.table_files import planned_tables

        return planned_tables([self.directory], Path(directory)).write()

    def _charts(self) -> dict[str, Chart]:
        from rlhf.inspection.charts import named_charts

        return named_charts(self.directory)

    def _read(self) -> Run:
        return read_run(self.directory)

    def _repr_html_(self) -> str:
        columns = ["name", "kl_per_completion", "kl_per_completion_se", "reward", "reward_se", "n"]
        table = self.ladder[columns].to_html(index=False, float_format=lambda value: f"{value:.3f}")
        said = html.escape(f"run {self.directory}: {self.stop_reason or 'going on'}")
        return f"<p>{said}; KL in nats per completion, ± one standard error</p>{table}"


def open_run(path: str | Path | OpenedRun) -> OpenedRun:
    """Open the run directory of `rlhf ppo` or of a `PPOTrainer`. Raises InputError when it is none."""
    run = path if isinstance(path, OpenedRun) else OpenedRun(path)
    if not (run.directory / "run.json").is_file():
        read_run(run.directory)  # which says what is there
    return run
