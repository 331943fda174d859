"""The README.md of an exported rung: what it was trained on, how far it went, what is known of it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from rlhf.foundation.terminal import shown
from rlhf.inspection.evaluation import RungEvaluation, read_evaluation
from rlhf.runs.ladder import Rung
from rlhf.runs.reading import FROM_TEXTS, Run

LONGEST = 200  # characters of a name
MARKUP = re.compile(r"[\\`*_{}\[\]()#+!|>~-]")


def model_card(run: Run, rung: Rung, evaluation_path: Path) -> str:
    """Markdown with the hub's front matter; figures carry their standard errors and n."""
    base = str(run.info.get("model", "unknown"))
    rewards = ", ".join(map(str, run.info.get("reward_functions", []))) or "unknown"
    se = "" if rung.kl_per_completion_se is None else f" ± {rung.kl_per_completion_se:.2f}"
    seen = "texts" if run.method in FROM_TEXTS else "completions"
    lines = [
        "---",
        "library_name: transformers",
        f"tags: [rlhf, {run.info.get('method', 'ppo')}]",
        "---",
        "",
        f"# {plain(run.name)}, rung {plain(rung.name)}",
        "",
        f"Finetuned with {run.method} on a KL budget. A rung is a checkpoint along KL(policy ‖ original).",
        "",
        f"- original model: {code(base)}",
        f"- reward: {code(rewards)}",
        f"- KL: {rung.kl_per_completion:.2f}{se} nats per completion at temperature 1 (n = {rung.n:,})",
        f"- iteration {rung.iteration}, {rung.completions_seen:,} {seen} and {rung.optimizer_steps:,} optimiser steps "
        "seen",
        f"- seed {plain(str(run.info.get('seed')))}, code revision {code(str(run.info.get('git_revision')))}",
        "",
        *known_figures(rung, evaluation_path),
        "A proxy reward rises further than what it stands for. Rate samples blind before you rely on this model.",
        "",
    ]
    return "\n".join(lines)


def plain(text: str) -> str:
    """A name as Markdown shows it letter for letter: nothing in it is markup, HTML or a line of its own."""
    return MARKUP.sub(lambda m: f"\\{m[0]}", shown(text, LONGEST)).replace("<", "&lt;")


def code(text: str) -> str:
    """The same between backticks, where only a backtick could end it."""
    return f"`{shown(text, LONGEST).replace('`', '´')}`"


def known_figures(rung: Rung, evaluation_path: Path) -> list[str]:
    """The evaluation's figures of this rung and of the original, as a table; nothing without an evaluation."""
    if not evaluation_path.exists():
        return [f"Proxy reward {rung.reward:.3f} ± {rung.reward_se:.3f} (n = {rung.n:,}).", ""]
    evaluation = read_evaluation(evaluation_path)
    by_name = {one.name: one for one in evaluation.rungs}
    if rung.name not in by_name:
        return []
    original, here = evaluation.rungs[0], by_name[rung.name]

    def cell(one: RungEvaluation, reward: str) -> str:
        estimate = one.reward(reward)
        return estimate.text(3) if estimate else "–"

    rewards = ["proxy", *evaluation.telling_golds, *evaluation.qualities]
    return [
        "| mean ± standard error | original | this rung |",
        "|---|---|---|",
        *(f"| {plain(reward)} | {cell(original, reward)} | {cell(here, reward)} |" for reward in rewards),
        f"| distinct-2 | {original.distinct_2 or 0:.3f} | {here.distinct_2 or 0:.3f} |",
        "",
        *(replace(onset, gold=plain(onset.gold)).statement() + "\n" for onset in evaluation.onsets.values()),
    ]
