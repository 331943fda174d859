"""Several runs of one experiment: told apart from twins, and their curve has a band over runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlhf.inspection.evaluation import evaluate_run
from rlhf.inspection.figures import Story
from rlhf.inspection.overoptimisation import Course, curve_of_runs, run_coefficients
from rlhf.inspection.replicates import joint_curves, joint_onsets, replicates
from rlhf.runs.reading import read_run

from .conftest import MakeRun

OPTIONS = {"learning_rate": 1e-3, "reward_model_path": ["rm"]}
INPUTS: dict[str, str | None] = {"original model's weights": "aa", "reward 1, log_p_positive": "bb"}


def story(
    directory: Path, seed: int, inputs: dict[str, str | None] | None = None, broke: bool = False, **options: Any
) -> Story:
    info = json.loads((directory / "run.json").read_text())
    resolved = {**OPTIONS, "seed": seed, "output_dir": str(directory), **options}
    info |= {"resolved": resolved, "inputs": INPUTS if inputs is None else inputs, "trained_parameters": 1000}
    info |= {"accepted_changes": [{"iteration": 3}]} if broke else {}
    (directory / "run.json").write_text(json.dumps(info))
    return Story(read_run(directory), evaluate_run(directory))


def test_repeats_differ_in_the_seed_alone(make_run: MakeRun) -> None:
    a = story(make_run("a", samples=30), 0)
    # Other paths and a tracker are no other experiment.
    b = story(make_run("b", samples=30, seed=1), 1, reward_model_path=["moved/rm"], report_to=["tensorboard"])
    assert len(replicates([a, b])) == 2
    assert replicates([a]) == []


APART: dict[str, dict[str, Any]] = {
    "another option": {"learning_rate": 2e-3},
    "another reward model at the same path": {"inputs": {**INPUTS, "reward 1, log_p_positive": "cc"}},
    "a reward that cannot be told": {"inputs": {**INPUTS, "reward 1, log_p_positive": None}},
    "an input that changed on the way": {"broke": True},
    "no digests": {"inputs": {}},
}


@pytest.mark.parametrize("options", APART.values(), ids=APART.keys())
def test_what_is_not_the_same_is_never_pooled(make_run: MakeRun, options: dict[str, Any]) -> None:
    stories = [story(make_run("a", samples=30), 0), story(make_run("b", samples=30), 1, **options)]
    assert replicates(stories) == []
    told = joint_onsets(stories)
    assert told == (["Runs are not pooled: b did not record what it was run on (digests in run.json)."]
                    if options.get("inputs") == {} else [])  # fmt: skip


def test_the_curve_through_runs(make_run: MakeRun) -> None:
    def gold(d: float) -> float:
        return d * (1 - 0.5 * np.log(d)) if d > 0 else 0.0  # highest at e: 7.4 of 10 nats

    stories = [story(make_run(f"run{seed}", samples=200, seed=seed, gold=gold), seed) for seed in range(3)]
    curves = joint_curves(stories, ["proxy", "gold"])
    assert set(curves) == {"proxy", "gold"}
    gold_curve = curves["gold"]
    assert gold_curve.alpha == pytest.approx(1.0, abs=0.1)
    assert gold_curve.beta == pytest.approx(0.5, abs=0.1)
    assert all(low <= value <= high for _, value, low, high in gold_curve.grid)
    (told,) = joint_onsets(stories)
    assert "over 3 runs" in told
    assert joint_curves(stories[:1], ["gold"]) == {}


def test_the_band_is_over_runs_first() -> None:
    # Runs that differ by whole points, samples that hardly do: the band must be as wide as the runs are apart.
    d = np.linspace(0, 3, 8)
    generator = np.random.default_rng(0)
    courses = [
        Course(d, slope * d[:, None] + generator.normal(0, 0.01, size=(8, 100))) for slope in (0.5, 1.0, 1.5, 2.0)
    ]
    _, value, low, high = curve_of_runs(courses, *run_coefficients(courses, 400)).grid[-1]
    assert value == pytest.approx(1.25 * 3, abs=0.02)
    # The mean of 4 slopes drawn with return has s = √(0.3125/4) = 0.28, times 3: 95 % of it spans about 3.3.
    assert high - low == pytest.approx(3.3, abs=0.6)
