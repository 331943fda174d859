"""Cells that differ by their seed alone, together: gold along √KL with a band over seeds, and the joint onset.

Gold is one rule for all cells, so its course may be averaged over seeds. Proxies are those of different reward models,
on scales of their own, and are never averaged.

Shapes: R rungs, G points of a grid, B bootstrap draws, S cells of a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlhf.inspection.estimates import Estimate, Floats, bootstrap_means, mean_estimate, percentile_interval
from rlhf.inspection.overoptimisation import Course, Onset, find_onset
from rlhf.inspection.scoring import PROXY
from rlhf.studies.tables import Cell

POINTS = 61
DRAWS = 1000


@dataclass(frozen=True, slots=True)
class Band:
    """Gold of a group on a grid of √KL that all its cells reach: mean and 95 % interval over seeds and samples."""

    d: Floats  # (G,)
    mean: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, slots=True)
class Group:
    """Cells with the same `values` of the factors that tell groups apart."""

    values: tuple[tuple[str, object], ...]
    cells: tuple[Cell, ...]

    @property
    def name(self) -> str:
        """`num_labels 300, noise 0.25`."""
        return ", ".join(f"{name} {value}" for name, value in self.values) or "all cells"

    def courses(self, reward: str | None = None) -> list[Course]:
        """Of gold, or another reward, one a cell."""
        return [cell.course(reward) for cell in self.cells]

    def degree(self) -> Estimate | None:
        """The overoptimisation degree, mean over cells with its error over cells; None where no cell has one."""
        return mean_estimate([degree.value for degree in map(Cell.degree, self.cells) if degree])

    def onset(self) -> Onset:
        """Of the gold, over all cells."""
        first = self.cells[0]
        names = [rung.name for rung in first.rungs]
        return find_onset(first.gold, names, self.courses(), self.courses(PROXY)[0])


def groups_of(cells: Sequence[Cell], factors: Sequence[str]) -> list[Group]:
    """Cells by their values of `factors`, in the order they come."""
    found: dict[tuple[tuple[str, object], ...], list[Cell]] = {}
    for cell in cells:
        found.setdefault(tuple((name, cell.stage.values[name]) for name in factors), []).append(cell)
    return [Group(values, tuple(own)) for values, own in found.items()]


def gold_band(group: Group, *, draws: int = DRAWS, seed: int = 0) -> Band:
    """Hierarchical bootstrap: cells with replacement, and within each the samples of all its rungs together.

    With one cell the band is of its samples alone.
    """
    courses = group.courses()
    grid: Floats = np.linspace(0.0, min(float(one.d.max()) for one in courses), POINTS).astype(np.float64)
    drawn = [_on_grid(grid, one, draws, seed + number) for number, one in enumerate(courses)]  # (B, G) each
    count = min(len(one) for one in drawn)
    stacked = np.stack([one[:count] for one in drawn])  # (S, B, G)
    picked = np.random.default_rng(seed).integers(len(courses), size=(len(courses), count))
    means = stacked[picked, np.arange(count)].mean(0)  # (B, G)
    low, high = np.array([percentile_interval(means[:, point]) for point in range(POINTS)]).T
    whole: Floats = np.mean([np.interp(grid, one.d, one.means) for one in courses], axis=0)
    return Band(grid, whole, low, high)


def _on_grid(grid: Floats, one: Course, draws: int, seed: int) -> Floats:
    return np.array([np.interp(grid, one.d, means) for means in bootstrap_means(one.scores, draws, seed)])
