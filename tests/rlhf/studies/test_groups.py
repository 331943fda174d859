"""Gold of several cells together: the band holds both what samples and what seeds differ by."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rlhf.inspection.overoptimisation import Course, Onset, find_onset
from rlhf.inspection.table_files import rows_as_csv
from rlhf.studies.groups import Group, gold_band
from rlhf.studies.page import coefficients_by
from rlhf.studies.tables import Cell

D = np.array([0.0, 1.0, 2.0])


class Known(Group):
    """Of courses that are given."""

    def __init__(self, courses: list[Course]) -> None:
        object.__setattr__(self, "given", courses)

    def courses(self, reward: str | None = None) -> list[Course]:
        given: Any = self.given  # type: ignore[attr-defined]
        return list(given)


def seed(level: float, spread: float = 0.0) -> Course:
    noise = spread * np.random.default_rng(int(100 * level)).standard_normal((3, 200))
    return Course(D, level + np.zeros((3, 200)) + noise)


def test_seeds_that_differ_make_a_band_and_equal_ones_none() -> None:
    same = gold_band(Known([seed(1.0), seed(1.0), seed(1.0)]))
    assert same.mean == pytest.approx(1.0)
    assert (same.high - same.low).max() == pytest.approx(0.0)
    apart = gold_band(Known([seed(0.0), seed(1.0), seed(2.0)]))
    assert apart.mean == pytest.approx(1.0)
    # The mean of three draws of {0, 1, 2}: 0 and 2 have probability 1/27 each, so both lie within 95 %'s ends.
    assert apart.low == pytest.approx(0.0)
    assert apart.high == pytest.approx(2.0)


def test_samples_make_the_band_of_one_cell() -> None:
    band = gold_band(Known([seed(1.0, spread=1.0)]))
    assert (band.high - band.low)[0] == pytest.approx(2 * 1.96 / np.sqrt(200), rel=0.25)


def test_the_grid_ends_where_the_shortest_ends() -> None:
    band = gold_band(Known([seed(1.0), Course(D[:2], np.ones((2, 200)))]))
    assert band.d[-1] == 1.0


def test_a_table_has_every_column_and_nothing_where_nothing_is() -> None:
    assert rows_as_csv([{"a": 1, "b": None}, {"a": 0.5, "c": [1, "x"]}]) == 'a,b,c\n1,,\n0.5,,"[1, ""x""]"\n'
    assert rows_as_csv([{"a": "=1+1"}]) == "a\n'=1+1\n"  # no order to a spreadsheet


def along(alpha: float, beta: float) -> Course:
    d = np.linspace(0.0, 3.0, 8)
    means = d * (alpha - beta * np.log(np.where(d > 0, d, 1.0)))
    return Course(d, means[:, None] + 0.01 * np.random.default_rng(0).standard_normal((8, 400)))


def test_coefficients_are_those_of_the_planted_curves() -> None:
    class Planted(Known):
        def onset(self) -> Onset:
            return find_onset("gold", [f"r{i}" for i in range(8)], self.courses(), self.courses()[0])

    def group(labels: object, alpha: float, beta: float) -> Group:
        made = Planted([along(alpha, beta)])
        object.__setattr__(made, "values", (("num_labels", labels), ("noise", 0.0)))
        return made

    chart = coefficients_by("num_labels", [group(300, 0.5, 0.2), group(150, 0.4, 0.3)])
    assert chart is not None
    lines = {trace.name: trace for trace in chart.figure.data}
    assert list(lines) == ["α noise 0.0", "β noise 0.0"]
    assert list(lines["α noise 0.0"].x) == [150.0, 300.0]
    assert list(lines["α noise 0.0"].y) == pytest.approx([0.4, 0.5], abs=0.01)
    assert list(lines["β noise 0.0"].y) == pytest.approx([0.3, 0.2], abs=0.01)
    assert coefficients_by("num_labels", [group(300, 0.5, 0.2)]) is None  # one point is no line
    assert coefficients_by("num_labels", [group("many", 0.5, 0.2), group("few", 0.4, 0.3)]) is None


def cell_of(gold: list[float], variety: list[float], share: float = 0.01) -> Cell:
    """Rungs at 0, 1, 4, 9, ... nats with these means of gold and distinct-2; the proxy always rises."""
    noise = 0.1 * np.random.default_rng(0).standard_normal((len(gold), 300))
    rungs = [
        SimpleNamespace(name=f"r{i}", kl=float(i * i), sqrt_kl=float(i), distinct_2=v, top_completion_share=share)
        for i, v in enumerate(variety)
    ]
    scores = {
        f"r{i}": {"gold": (mean + noise[i]).tolist(), "proxy": (i + noise[i]).tolist()} for i, mean in enumerate(gold)
    }
    evaluation: Any = SimpleNamespace(rungs=rungs, scores=scores, golds=["gold"])
    stage: Any = None
    return Cell(stage, evaluation, None)


def test_a_collapse_onto_a_template_is_no_part_of_the_curve() -> None:
    gold, varied = [0.0, 0.3, 0.5, 0.55, 0.4, 0.3, 1.5, 1.5], [0.5, 0.45, 0.4, 0.35, 0.3, 0.2, 0.1, 0.02]
    collapsed = cell_of(gold, varied)
    assert collapsed.collapsed_from == 36.0  # 0.1 is below a quarter of 0.5, 0.2 is not
    assert [rung.name for rung in collapsed.rungs] == [f"r{i}" for i in range(6)]
    assert collapsed.onset().status == "onset"
    assert 4 < collapsed.onset().d ** 2 < 12
    whole = cell_of(gold, [0.5] * 8)  # the same gold by varied texts: it is highest at the end
    assert whole.collapsed_from is None
    assert whole.onset().status == "none_seen"
    assert [rung.name for rung in cell_of(gold, varied, share=0.9).rungs] == ["r0"]
