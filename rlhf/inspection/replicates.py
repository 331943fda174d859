"""Several runs of one experiment: what is said of all of them, with errors over runs first and samples second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlhf.inspection.curve_fits import CurveFit
from rlhf.inspection.evaluation import Evaluation, course
from rlhf.inspection.figures import Story
from rlhf.inspection.overoptimisation import Course, curve_of_runs, find_onset, run_coefficients
from rlhf.inspection.scoring import PROXY

DRAWS = 500
# Options that may differ: seeds, and paths, since a repeat has a model and a reward model of its own.
FREE = {"seed", "output_dir", "resume", "quiet", "model_name_or_path", "reward_model_path"}


def replicates(stories: Sequence[Story]) -> list[Evaluation]:
    """The evaluations of runs that differ in nothing but seeds and paths; none where they differ in more.

    Twins trained towards opposite labels differ in the name of their reward.
    """
    settings = [what_defines(story) for story in stories]
    evaluations = [story.evaluation for story in stories if story.evaluation]
    alike = len(evaluations) == len(stories) > 1 and all(s is not None and s == settings[0] for s in settings)
    return evaluations if alike else []


def what_defines(story: Story) -> dict[str, Any] | None:
    """What two runs of one experiment share; None when run.json does not say."""
    info = story.run.info
    if "resolved" not in info:
        return None
    options = {key: value for key, value in info["resolved"].items() if key not in FREE}
    return {**options, "rewards": info.get("reward_functions"), "parameters": info.get("trained_parameters")}


def courses_of(evaluations: Sequence[Evaluation], reward: str) -> list[Course]:
    """One course a run; empty when a run lacks the reward on some rung."""
    if any(rung.reward(reward) is None for evaluation in evaluations for rung in evaluation.rungs):
        return []
    return [course(evaluation.rungs, evaluation.scores, reward) for evaluation in evaluations]


def joint_onsets(stories: Sequence[Story]) -> list[str]:
    """What is found of each shared gold over all runs of one experiment."""
    evaluations = replicates(stories)
    told = []
    for gold in evaluations[0].golds if evaluations else []:
        courses = courses_of(evaluations, gold) if all(gold in e.golds for e in evaluations) else []
        if courses:
            first = evaluations[0]
            names, proxy = [rung.name for rung in first.rungs], course(first.rungs, first.scores, PROXY)
            told.append(find_onset(gold, names, courses, proxy, draws=DRAWS).statement())
    return told


def joint_curves(stories: Sequence[Story], rewards: Sequence[str]) -> dict[str, CurveFit]:
    """The curve R₀ + d(α - β log d) through all runs by reward, its band over runs and samples."""
    evaluations = replicates(stories)
    found = {}
    for reward in rewards if evaluations else []:
        courses = courses_of(evaluations, reward)
        if courses and sum(len(c.d) for c in courses) > 3:
            found[reward] = curve_of_runs(courses, *run_coefficients(courses, DRAWS))
    return found
