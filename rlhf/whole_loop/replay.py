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
from rewards.loading import as_reward_functions, load_rewards
from rlhf.foundation.errors import InputError
from rlhf.foundation.four_bit import FourBit
from rlhf.foundation.host import same_threads
from rlhf.foundation.model_digests import Inputs, model_inputs
from rlhf.foundation.recorded_paths import located
from rlhf.language_model.prompt_files import as_both_rows
from rlhf.ppo.config import PPOConfig
from rlhf.ppo.finetune import PPOCommandConfig, known_constants, load_peft_config, load_rows
from rlhf.ppo.normalization import Normalization
from rlhf.ppo.policy import load_original
from rlhf.runs import provenance

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


def options_of(info: Mapping[str, Any], root: Path) -> PPOConfig:
    """The run's options, files where they are today; a `PPOCommandConfig` for a run of the command line.

    Raises InputError for a file that is gone.
    """
    kind = PPOCommandConfig if "model_name_or_path" in info["resolved"] else PPOConfig
    return kind(**_known(kind, located(info, root, info["resolved"])))


def rewards_of(info: Mapping[str, Any], root: Path) -> list[RewardFunction]:
    """The run's rewards, loaded from where they are today. Raises InputError."""
    if info.get("made_from"):
        return as_reward_functions(
            located(info, root, {"reward_func": info["made_from"]["reward_func"]})["reward_func"]
        )
    keys = ("reward_model_path", "reward_func")
    names = located(info, root, {key: info["resolved"].get(key) or [] for key in keys})
    return load_rewards(names["reward_model_path"], names["reward_func"], label=info["resolved"].get("reward_label"))


def rows_of(info: Mapping[str, Any], root: Path) -> tuple[Rows | None, Rows | None]:
    """Training and evaluation prompts as the trainer was given them. Raises InputError."""
    from rlhf.language_model.prompt_files import read_prompts

    if info.get("made_from"):
        return None, None
    keys = {"prompt", "prompts", "prompt_column", "dataset_name", "dataset_train_split", "dataset_config"}
    given = {key: value for key, value in info["resolved"].items() if key in keys | {"eval_prompts"}}
    found = located(info, root, given)
    evaluation = found.pop("eval_prompts", None)
    command = PPOCommandConfig(output_dir="unused", model_name_or_path="unused", reward_func=["unused"], **found)
    return load_rows(command), read_prompts(evaluation, command.prompt_column) if evaluation else None


def model_of(info: Mapping[str, Any], root: Path) -> str:
    """Where the original is today. Raises InputError when it is gone."""
    name = (info.get("made_from") or info["resolved"])["model_name_or_path"]
    return str(located(info, root, {"model_name_or_path": name})["model_name_or_path"])


def recipe_of(info: Mapping[str, Any], root: Path) -> Recipe:
    """The run's options and inputs, from where they are today; `info` is run.json of the run in `root`.

    Raises InputError when one is not found or cannot be loaded, or has no name.
    """
    require_named(info, root)
    options, rewards, rows = options_of(info, root), rewards_of(info, root), rows_of(info, root)
    model = model_of(info, root)
    if not isinstance(options, PPOCommandConfig):
        given = "reward_constants" in info["made_from"]["in_memory"]
        constants = Normalization(**info["normalization"]) if given else None
        return Recipe(options, model, rewards, *rows, None, constants)
    # The file of a reward model knows the original by the name that the run gave it.
    named = dataclasses.replace(options, model_name_or_path=info["resolved"]["model_name_or_path"])
    constants = known_constants(named, rewards, [row["prompt"] for row in rows[0] or []])
    return Recipe(options, model, rewards, *rows, load_peft_config(options), constants)


def _known(config: type[PPOConfig], resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Of recorded options those that there still are."""
    names = {field.name for field in dataclasses.fields(config)}
    return {name: value for name, value in resolved.items() if name in names}


def original_of(info: Mapping[str, Any], root: Path) -> Inputs:
    """The digests of the original as it is today, as the trainer takes them. Raises InputError."""
    resolved = info["resolved"]
    another = bool(resolved.get("use_peft"))
    how: dict[str, Any] = {"dtype": resolved["dtype"], "another": another, "four_bit": FourBit.of(resolved)}
    model, tokenizer, _ = load_original(model_of(info, root), None, **how)
    return model_inputs(model, tokenizer)


def prompts_of(info: Mapping[str, Any], root: Path) -> Inputs:
    """The digests of the prompts. Raises InputError."""
    return provenance.prompt_inputs(*as_both_rows(*rows_of(info, root)))


def critic_of(info: Mapping[str, Any], root: Path) -> Inputs:
    """The digest of the files that a critic began from. Raises InputError."""
    return provenance.training_inputs(None, options_of(info, root).critic_model_path)


def changed_inputs_of(info: Mapping[str, Any], root: Path, rewards: list[RewardFunction]) -> list[str]:
    """Names of the run's inputs that are others today; an adapter's settings stand in the run's own options."""
    then = {name: known for name, known in info.get("inputs", {}).items() if not name.startswith("adapter '")}
    parts = (original_of, prompts_of, critic_of)
    today = {name: known for part in parts for name, known in part(info, root).items()}
    return provenance.changed_since({**info, "inputs": then}, today | provenance.reward_inputs(rewards))


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
        config = "--config_file accelerate_config.yaml"
        launch = f"accelerate launch {config} --num_processes {counts[0]} -m rlhf.cli reproduce {root}"
        got = f"a run of {counts[0]} process{'es' if counts[0] > 1 else ''}"
        raise _not_again(
            root, got, f"launch it as the run was, such as {launch}" if counts[0] > 1 else "start it alone"
        )
    return list(sessions)


def replay(recipe: Recipe, sessions: list[dict[str, Any]], output_dir: Path, *, quiet: bool) -> None:
    """Make the run again in `output_dir`, with the threads that each session had. Raises InputError like the trainer,
    but for a divergence, which then is part of the run."""
    ends = [session["iteration"] for session in sessions[1:]]
    for number, (session, end) in enumerate(zip(sessions, [*ends, None], strict=True)):
        changes: dict[str, Any] = {"output_dir": str(output_dir), "resume": number > 0, "quiet": quiet, "report_to": []}
        options = dataclasses.replace(
            recipe.options, accept_changes=False, overwrite=False, **session["options"], **changes
        )
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
