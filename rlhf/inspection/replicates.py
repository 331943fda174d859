"""Several runs of one experiment: what is said of all of them, with errors over runs first and samples second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlhf.foundation.recorded_paths import PATHS
from rlhf.inspection.curve_fits import CurveFit
from rlhf.inspection.evaluation import Evaluation, course
from rlhf.inspection.figures import Story
from rlhf.inspection.overoptimisation import Course, curve_of_runs, find_onset, run_coefficients
from rlhf.inspection.scoring import PROXY
from rlhf.runs.provenance import is_lineage

DRAWS = 500
# Options that may differ between repeats; what the named files hold is compared by its digest.
FREE = {"seed", "output_dir", "resume", "overwrite", "quiet", "accept_changes", "report_to", "use_cpu"} | PATHS


def replicates(stories: Sequence[Story]) -> list[Evaluation]:
    """The evaluations of runs that differ in nothing but the seed; none where they differ in more.

    The same original, prompts and rewards are told by the digests of run.json, not by their paths: where there are
    none, nothing is pooled.
    """
    settings = [what_defines(story) for story in stories]
    evaluations = [story.evaluation for story in stories if story.evaluation]
    alike = len(evaluations) == len(stories) > 1 and all(s is not None and s == settings[0] for s in settings)
    return evaluations if alike else []


def what_defines(story: Story) -> dict[str, Any] | None:
    """What two runs of one experiment share; None when run.json does not say, or an input changed on the way."""
    info = story.run.info
    known = info.get("inputs") or {"": None}
    inputs = {name: digest for name, digest in known.items() if not is_lineage(name)}  # what was computed with
    if "resolved" not in info or None in inputs.values() or info.get("accepted_changes"):
        return None
    options = {key: value for key, value in info["resolved"].items() if key not in FREE}
    return {**options, "inputs": inputs, "parameters": info.get("trained_parameters")}


def courses_of(evaluations: Sequence[Evaluation], reward: str) -> list[Course]:
    """One course a run; empty when a run lacks the reward on some rung."""
    if any(rung.reward(reward) is None for evaluation in evaluations for rung in evaluation.rungs):
        return []
    return [course(evaluation.rungs, evaluation.scores, reward) for evaluation in evaluations]


def joint_onsets(stories: Sequence[Story]) -> list[str]:
    """What is found of each shared gold over all runs of one experiment."""
    evaluations = replicates(stories)
    told = untold(stories)
    for gold in evaluations[0].golds if evaluations else []:
        courses = courses_of(evaluations, gold) if all(gold in e.golds for e in evaluations) else []
        if courses:
            first = evaluations[0]
            names, proxy = [rung.name for rung in first.rungs], course(first.rungs, first.scores, PROXY)
            told.append(find_onset(gold, names, courses, proxy, draws=DRAWS).statement())
    return told


def untold(stories: Sequence[Story]) -> list[str]:
    """The sentence on runs that may be repeats of one experiment, but do not say so."""
    silent = [story.run.name for story in stories if not story.run.info.get("inputs")]
    if len(stories) < 2 or not silent:
        return []
    return [f"Runs are not pooled: {', '.join(silent)} did not record what it was run on (digests in run.json)."]


def joint_curves(stories: Sequence[Story], rewards: Sequence[str]) -> dict[str, CurveFit]:
    """The curve R₀ + d(α - β log d) through all runs by reward, its band over runs and samples."""
    evaluations = replicates(stories)
    found = {}
    for reward in rewards if evaluations else []:
        courses = courses_of(evaluations, reward)
        if courses and sum(len(c.d) for c in courses) > 3:
            found[reward] = curve_of_runs(courses, *run_coefficients(courses, DRAWS))
    return found
