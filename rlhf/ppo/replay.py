"""A recorded run made again: its trainer from the names in run.json, then the iterations of each of its sessions.

A session is what one start of the trainer made, from its iteration on; a run that was resumed has several, each with
its own --max_iterations and --kl_budget.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rewards.calling import RewardFunction
from rewards.loading import as_reward_functions
from rlhf.foundation.errors import InputError
from rlhf.foundation.host import same_threads
from rlhf.ppo import provenance
from rlhf.ppo.__main__ import PPOCommandConfig, known_constants, load_peft_config, load_rewards, load_rows
from rlhf.ppo.config import PPOConfig
from rlhf.ppo.normalization import Normalization
from rlhf.ppo.policy import load_original
from rlhf.ppo.prompts import as_both_rows
from rlhf.ppo.run_paths import located

Rows = list[dict[str, Any]]


class Recipe(NamedTuple):
    """What a run's trainer is made of; its options besides."""

    options: PPOConfig
    model: str
    rewards: list[RewardFunction]
    train: Rows | None
    evaluation: Rows | None
    peft_config: Any
    constants: Normalization | None


def require_named(info: Mapping[str, Any], root: Path) -> None:
    """Raise InputError when the run was made in Python of something that no name brings back."""
    made = info.get("made_from") or {}
    missing = [one for one in made.get("in_memory", []) if one != "reward_constants"]
    if "model_name_or_path" not in info.get("resolved", {}) and not made:
        missing = ["its model and rewards, which an older version did not record"]
    if missing:
        raise InputError(
            str(root),
            got=f"a run made in Python that no path names: {', '.join(missing)}",
            expected="a run of `rlhf ppo`, or one whose model and rewards were given by name",
            fix="run the Python code again, with another output_dir",
        )


def recipe_of(info: Mapping[str, Any], root: Path) -> Recipe:
    """The run's options and inputs, from where they are today; `info` is run.json of the run in `root`.

    Raises InputError when one is not found or cannot be loaded.
    """
    require_named(info, root)
    resolved = info["resolved"]
    if "model_name_or_path" not in resolved:
        made = located(info, root, {key: value for key, value in info["made_from"].items() if key != "in_memory"})
        given = "reward_constants" in info["made_from"]["in_memory"]
        constants = Normalization(**info["normalization"]) if given else None
        options = PPOConfig(**_known(PPOConfig, located(info, root, resolved)))
        rewards = as_reward_functions(made["reward_func"])
        return Recipe(options, made["model_name_or_path"], rewards, None, None, None, constants)
    from rlhf.language_model.prompt_files import read_prompts

    config = PPOCommandConfig(**_known(PPOCommandConfig, located(info, root, resolved)))
    rows, rewards = load_rows(config), load_rewards(config)
    # The file of a reward model knows the original by the name that the run gave it.
    named = dataclasses.replace(config, model_name_or_path=resolved["model_name_or_path"])
    return Recipe(
        config,
        config.model_name_or_path,
        rewards,
        rows,
        read_prompts(config.eval_prompts, config.prompt_column) if config.eval_prompts else None,
        load_peft_config(config),
        known_constants(named, rewards, [row["prompt"] for row in rows]),
    )


def _known(config: type[PPOConfig], resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Of recorded options those that there still are."""
    names = {field.name for field in dataclasses.fields(config)}
    return {name: value for name, value in resolved.items() if name in names}


def inputs_of(recipe: Recipe) -> provenance.Inputs:
    """The digests of what a run depends on, as the trainer takes them; adapters' settings aside. Loads the original."""
    another = recipe.peft_config is not None
    model, tokenizer, _ = load_original(recipe.model, None, dtype=recipe.options.dtype, another=another)
    train, evaluation = as_both_rows(recipe.train, recipe.evaluation)
    inputs = provenance.run_inputs(model, recipe.options.critic_model_path, train, evaluation, recipe.rewards)
    return provenance.model_inputs(model, tokenizer) | inputs


def changed_inputs_of(info: Mapping[str, Any], recipe: Recipe) -> list[str]:
    """Names of the run's inputs that are others today."""
    then = {name: known for name, known in info.get("inputs", {}).items() if not name.startswith("adapter '")}
    return provenance.changed_since({**info, "inputs": then}, inputs_of(recipe))


def sessions_of(info: Mapping[str, Any], root: Path) -> list[dict[str, Any]]:
    """The run's sessions in order. Raises InputError when they cannot be made again, or not by these processes."""
    sessions = info.get("sessions") or [{"iteration": 0, "options": {}, **info}]
    if any("options" not in session for session in sessions):
        raise _not_again(root, "a run that an older version began and did not note how", "begin another run")
    if info.get("accepted_changes"):
        names = "; ".join(dict.fromkeys(one["name"] for row in info["accepted_changes"] for one in row["inputs"]))
        raise _not_again(root, f"a run whose inputs were changed on the way ({names})", "what they were is not kept")
    if info.get("status") == "running":
        raise _not_again(root, "a run that is not finished", "continue it with --resume first")
    counts = sorted({session.get("world_size") or 1 for session in sessions})
    if len(counts) > 1:
        raise _not_again(root, f"a run made by {counts[0]} and by {counts[-1]} processes", "begin another run")
    if counts[0] != int(os.environ.get("WORLD_SIZE", "1")):
        launch = f"accelerate launch --num_processes {counts[0]} -m rlhf.cli reproduce {root}"
        raise _not_again(root, f"a run of {counts[0]} processes", f"give it as many: {launch}")
    return list(sessions)


def replay(recipe: Recipe, sessions: list[dict[str, Any]], output_dir: Path, *, quiet: bool) -> None:
    """Make the run again in `output_dir`, with the threads that each session had. Raises InputError like the trainer,
    but for a divergence, which then is part of the run."""
    ends = [session["iteration"] for session in sessions[1:]]
    for number, (session, end) in enumerate(zip(sessions, [*ends, None], strict=True)):
        changes: dict[str, Any] = {"output_dir": str(output_dir), "resume": number > 0, "quiet": quiet, "report_to": []}
        options = dataclasses.replace(recipe.options, accept_changes=False, **session["options"], **changes)
        with same_threads(session):
            _make(recipe, options, end)


def _make(recipe: Recipe, options: PPOConfig, end: int | None) -> None:
    """One session, up to the iteration `end` (None: until the run stops)."""
    from rlhf.ppo.trainer import PPOTrainer

    trainer = PPOTrainer(
        recipe.model,
        recipe.rewards,
        options,
        train_dataset=recipe.train,
        eval_dataset=recipe.evaluation,
        peft_config=recipe.peft_config,
        reward_constants=recipe.constants,
    )
    try:
        trainer.begin()
        while trainer.stop_reason is None and (end is None or trainer.iteration < end):
            trainer.step(trainer.rollout())
    except InputError:
        if trainer.run.record.get("status") != "diverged":
            raise
    finally:
        trainer.close()


def _not_again(root: Path, got: str, fix: str) -> InputError:
    return InputError(str(root), got=got, expected="a run that can be made again from its record", fix=fix)
