"""Can a run know, without gold, that gold is about to stop rising? From the finished cells of studies.

    .venv/bin/python benchmarks/early_warning.py STUDY_DIRECTORY ... [--false_at_most 0.05] [--picture PNG]

Signals are what metrics.jsonl has at every iteration (of a second reward, with --watch, and of an ensemble's members,
where a cell has them), and the share of held-out labels that its reward model had wrong. A detector is a signal and a
threshold: it warns at the first iteration at which the signal passes it, and never before 1 nat. Of each cell:

- a warning is *false* where a later rung's gold is higher than that of the rung before the warning, by more than two
  standard errors of the paired difference and by more than a tenth of all that gold gained on the ladder;
- it is *timely* where it comes at least 1 nat before the onset, and not false. Cells without an onset have none.

Thresholds are chosen on the other seeds (leave one seed out): of those with at most 5 % false warnings (or the
share given) the one with most timely ones. Told are the shares on the seeds left out, with 95 % intervals (Wilson).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from rlhf.foundation.proportion import wilson
from rlhf.inspection.evaluation import Evaluation, read_evaluation

Floats = NDArray[np.float64]
EARLIEST = 1.0  # nats
WINDOW = 1.0  # of √KL, over which slopes are taken
LITTLE = 0.1  # of all that gold gained: less is no rise
THRESHOLDS = 60


@dataclass(frozen=True)
class Cell:
    """A run's lines and what gold did."""

    seed: int
    lines: list[dict[str, Any]]
    evaluation: Evaluation
    held_out_error: float | None = None  # share of labels

    @cached_property
    def onset(self) -> float | None:
        """Nats; None where gold does not fall."""
        found = self.evaluation.onsets[self.evaluation.golds[0]]
        return found.d**2 if found.status == "onset" else None

    def rises_after(self, kl: float) -> bool:
        """Whether gold is higher, beyond two errors, at some rung after `kl` nats than at the last one before."""
        return self._rises[max(i for i, rung in enumerate(self.evaluation.rungs) if rung.kl <= kl)]

    @cached_property
    def _rises(self) -> list[bool]:
        """After each rung."""
        gold, rungs = self.evaluation.golds[0], self.evaluation.rungs
        scores = [np.array(self.evaluation.scores[rung.name][gold], dtype=float) for rung in rungs]
        means = [float(one.mean()) for one in scores]
        matters = LITTLE * (max(means) - means[0])
        return [any(_more(scores[here], later, matters) for later in scores[here + 1 :]) for here in range(len(rungs))]


def _more(here: Floats, later: Floats, matters: float) -> bool:
    gained = later - here
    return bool(gained.mean() > max(2 * gained.std(ddof=1) / math.sqrt(gained.size), matters))


def trailing_slope(cell: Cell, key: str) -> list[float]:
    """Of a metric against √KL over the last WINDOW of it, at each iteration; NaN before there are three points."""
    found = []
    for number, line in enumerate(cell.lines):
        near = [one for one in cell.lines[: number + 1] if one["sqrt_kl"] >= line["sqrt_kl"] - WINDOW]
        x, y = np.array([one["sqrt_kl"] for one in near]), np.array([one[key] for one in near])
        enough = len(near) >= 3 and np.ptp(x) > 0.1
        found.append(float(np.polyfit(x, y, 1)[0]) if enough else math.nan)
    return found


def share_of_slope(cell: Cell, part: str, whole: str) -> list[float]:
    """One reward's trailing slope over another's, NaN where that does not rise."""
    pairs = zip(trailing_slope(cell, part), trailing_slope(cell, whole), strict=True)
    return [p / w if w > 0 else math.nan for p, w in pairs]


def below_its_best(cell: Cell) -> list[float]:
    """The watched reward less its best so far, in standard errors of a rollout's mean: 0 at a new best."""
    _, watched = trained_and_watched(cell)
    spread = cell.lines[0][watched.replace("/mean", "/std")] / math.sqrt(cell.lines[0]["iteration_batch_size"])
    best, found = -math.inf, []
    for line in cell.lines:
        best = max(best, line[watched])
        found.append((line[watched] - best) / spread)
    return found


def trained_and_watched(cell: Cell) -> tuple[str, str]:
    """The keys of both rewards' means."""
    (watched,) = [key for key in cell.lines[0] if key.startswith("rewards/") and key.endswith("-2/mean")]
    return watched.replace("-2/", "/"), watched


def of_members(cell: Cell, what: str) -> str:
    """The key that has `worst_member` or `disagreement` of the ensemble that the cell is paid by."""
    return next(key for key in cell.lines[0] if key.startswith("rewards/") and key.endswith(f"/{what}"))


def over_its_start(cell: Cell, key: str) -> list[float]:
    """A metric over its first value."""
    return [line[key] / cell.lines[0][key] for line in cell.lines]


def raw(key: str) -> Callable[[Cell], list[float]]:
    """The same of one that every cell has."""
    return lambda cell: over_its_start(cell, key)


def rising(signal: Callable[[Cell], list[float]]) -> Callable[[Cell], list[float]]:
    """A signal that warns where it rises."""
    return lambda cell: [-value for value in signal(cell)]


def disagreement(cell: Cell) -> list[float]:
    """Of the members, over its first value."""
    return over_its_start(cell, of_members(cell, "disagreement"))


# By name: the signal, which warns where it falls below a threshold.
OF_THE_WATCHED = "watched"
OF_MEMBERS = "members'"
SIGNALS: dict[str, Callable[[Cell], list[float]]] = {
    "watched reward's slope over the trained one's": lambda cell: share_of_slope(
        cell, *reversed(trained_and_watched(cell))
    ),
    "watched reward's slope": lambda cell: trailing_slope(cell, trained_and_watched(cell)[1]),
    "watched reward below its best, in errors": below_its_best,
    "trained reward's slope": lambda cell: trailing_slope(cell, "reward"),
    "members' disagreement, over its start (rises)": rising(disagreement),
    "members' disagreement, over its start (falls)": disagreement,
    "members' disagreement, its slope (rises)": rising(
        lambda cell: trailing_slope(cell, of_members(cell, "disagreement"))
    ),
    "members' worst: its slope over the reward's": lambda cell: share_of_slope(
        cell, of_members(cell, "worst_member"), "reward"
    ),
    "entropy, over its start": raw("entropy"),
    "distinct-2, over its start": raw("distinct_2"),
    "spread of the reward, over its start": raw("reward_std"),
    "length, over its start (falls)": raw("completions/mean_length"),
    "length, over its start (rises)": rising(raw("completions/mean_length")),
    "k1 over exact KL, off 1": lambda cell: [
        -abs(line["kl_k1"] / line["kl_per_completion"] - 1) if line["kl_per_completion"] > 0 else 0.0
        for line in cell.lines
    ],
    "KL alone": rising(lambda cell: [line["kl_per_completion"] for line in cell.lines]),
    "KL times the reward model's held-out error": lambda cell: [
        -line["kl_per_completion"] * (cell.held_out_error or math.nan) for line in cell.lines
    ],
}


def warning(cell: Cell, values: Sequence[float], threshold: float) -> float | None:
    """KL of the first warning, nats; None where there is none."""
    for line, value in zip(cell.lines, values, strict=True):
        if line["kl_per_completion"] >= EARLIEST and value < threshold:
            return float(line["kl_per_completion"])
    return None


def outcome(cell: Cell, at: float | None) -> tuple[bool, bool]:
    """Whether the warning is false, and whether it is timely."""
    if at is None:
        return False, False
    if cell.rises_after(at):
        return True, False
    return False, cell.onset is not None and at <= cell.onset - 1


def timely_at_all(cell: Cell) -> bool:
    """Whether a warning at some iteration would be both: what an oracle could do, which knows all of gold."""
    return any(outcome(cell, kl)[1] for line in cell.lines if (kl := line["kl_per_completion"]) >= EARLIEST)


def best_threshold(cells: Sequence[Cell], values: Sequence[Sequence[float]], false_at_most: float) -> float:
    """Most timely warnings at no more than this share of false ones; no warning at all where nothing does better."""
    every = np.array([v for own in values for v in own if math.isfinite(v)])
    best, most = -math.inf, 0
    for threshold in np.unique(np.quantile(every, np.linspace(0, 1, THRESHOLDS))):
        found = [outcome(c, warning(c, own, threshold)) for c, own in zip(cells, values, strict=True)]
        false, timely = (sum(pair[i] for pair in found) for i in (0, 1))
        if false <= false_at_most * len(cells) and timely > most:
            best, most = float(threshold), timely
    return best


def held_out(
    cells: Sequence[Cell], signal: Callable[[Cell], list[float]], false_at_most: float = 0.05
) -> list[tuple[bool, bool]]:
    """The outcome of each cell by the threshold of all other seeds."""
    values = [signal(cell) for cell in cells]
    found = []
    for cell, own in zip(cells, values, strict=True):
        others = [i for i, other in enumerate(cells) if other.seed != cell.seed]
        threshold = best_threshold([cells[i] for i in others], [values[i] for i in others], false_at_most)
        found.append(outcome(cell, warning(cell, own, threshold)))
    return found


def read_cells(studies: Sequence[Path]) -> list[Cell]:
    """The finished ones."""
    cells = []
    for path in (path for study in studies for path in sorted(study.glob("cells/*/evaluation.json"))):
        run = json.loads((path.parent / "run.json").read_text(encoding="utf-8"))
        lines = [json.loads(line) for line in (path.parent / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        cells.append(Cell(run["resolved"]["seed"], lines, read_evaluation(path), held_out_error(run)))
    return cells


def held_out_error(run: dict[str, Any]) -> float | None:
    """Of the reward model that the run was paid by."""
    report = json.loads((Path(run["resolved"]["reward_model_path"][0]) / "reward_model.json").read_text("utf-8"))
    accuracy = (report.get("held_out") or {}).get("accuracy") or {}
    return 1 - accuracy["share"] if "share" in accuracy else None


def knows(cell: Cell, signal: str) -> bool:
    """Whether the cell has what the signal is read from."""
    needed = {OF_THE_WATCHED: "-2/mean", OF_MEMBERS: "/disagreement"}
    endings = [ending for start, ending in needed.items() if signal.startswith(start)]
    return all(any(key.endswith(ending) for key in cell.lines[0]) for ending in endings)


def share(count: int, total: int) -> str:
    """`3 of 10 (11 to 60 %)`."""
    if total == 0:
        return "none"
    _, _, low, high = wilson(count, total)
    return f"{count} of {total} ({low:.0%} to {high:.0%})"


DRAWN = (
    "watched reward's slope over the trained one's",
    "spread of the reward, over its start",
    "distinct-2, over its start",
)


def draw(cells: Sequence[Cell], path: Path) -> None:
    """Gold and three signals against the nats until the onset, a line a cell that has one."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(2, 2, figsize=(9, 6), sharex=True)
    for axes, title in zip(panels.flat, ("gold", *DRAWN), strict=True):
        for cell in (cell for cell in cells if cell.onset is not None and knows(cell, title)):
            if title == "gold":
                x = [rung.kl for rung in cell.evaluation.rungs]
                y = [rung.gold[cell.evaluation.golds[0]].mean for rung in cell.evaluation.rungs]
            else:
                x, y = [line["kl_per_completion"] for line in cell.lines], SIGNALS[title](cell)
            axes.plot(np.array(x) - (cell.onset or 0.0), y, color="#0f766e", alpha=0.35, lw=1)
        axes.axvline(0, color="#b45309", lw=1, ls="--")
        axes.set_title(title, fontsize=9, loc="left")
        axes.set_xlim(-6, 6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    panels[0, 1].set_ylim(-1.5, 3)
    for axes in panels[1]:
        axes.set_xlabel("KL beyond the onset, nats", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=140)


def main() -> None:
    """Print a row a signal, perhaps draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", type=Path, nargs="+")
    parser.add_argument("--false_at_most", type=float, default=0.05)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    every = read_cells(options.studies)
    with_onset = sum(cell.onset is not None for cell in every)
    print(f"{len(every)} cells, {len({cell.seed for cell in every})} seeds, {with_onset} with an onset")
    possible = sum(timely_at_all(cell) for cell in every)
    print(f"a warning that is timely and not false exists in {share(possible, with_onset)} of them")
    print("| signal | timely, of cells with an onset | false, of all cells |\n|---|---|---|")
    for name, signal in SIGNALS.items():
        cells = [cell for cell in every if knows(cell, name)]
        onsets = [cell for cell in cells if cell.onset is not None]
        found = held_out(cells, signal, options.false_at_most)
        timely, false = sum(t for _, t in found), sum(f for f, _ in found)
        print(f"| {name} | {share(timely, len(onsets))} | {share(false, len(cells))} |", flush=True)
    if options.picture:
        draw(every, options.picture)


if __name__ == "__main__":
    main()
