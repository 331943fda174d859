"""What a run's numbers depend on, as digests in run.json, so that no input changes behind a run's back.

Each input has a name that a message can use and a SHA-256, or None where nothing can be read (a function typed at a
prompt). Of a reward function its own source file counts (of a rule of this package the function alone), not what that
file imports, nor what an object carries besides. Of a reward model its origin counts too (rewards/lineage.py): base
model, labels, labelled samples, the samples that fixed offset and scale.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rewards.calling import RewardFunction, reward_name
from rewards.lineage import lineage_digests, lineage_lines
from rlhf.foundation.adapters import is_adapter
from rlhf.foundation.digests import digest_files, file_digest, value_digest
from rlhf.foundation.model_digests import Inputs, settings_of

OUR_PACKAGES = ("rlhf", "rewards", "labeling")


def run_inputs(
    model: Any,
    critic_path: str | None,
    train: Sequence[Mapping[str, Any]],
    evaluation: Sequence[Mapping[str, Any]],
    rewards: Sequence[RewardFunction],
) -> Inputs:
    """All that is not the original itself: adapter and critic, prompts, rewards."""
    return training_inputs(model, critic_path) | prompt_inputs(train, evaluation) | reward_inputs(rewards)


def prompt_inputs(train: Sequence[Mapping[str, Any]], evaluation: Sequence[Mapping[str, Any]]) -> Inputs:
    """The prompts with all their columns."""
    rows = {"prompts": train, "evaluation prompts": evaluation}
    return {name: value_digest([dict(row) for row in given]) for name, given in rows.items()}


def training_inputs(model: Any, critic_path: str | None) -> Inputs:
    """The settings of the policy's adapters, as they were resolved, and the files that a critic starts from."""
    adapters = model.peft_config if is_adapter(model) else {}
    found: Inputs = {f"adapter '{name}'": value_digest(settings_of(config)) for name, config in adapters.items()}
    return found | ({"critic's model": value_digest(digest_files(Path(critic_path), "."))} if critic_path else {})


def reward_inputs(functions: Sequence[RewardFunction]) -> Inputs:
    """Every reward function with the parts that it is made of."""
    found: Inputs = {}
    for number, function in enumerate(functions, start=1):
        found |= _of_reward(f"reward {number}, {reward_name(function)}", function)
    return found


def reward_origins(functions: Sequence[RewardFunction]) -> dict[str, dict[str, Any]]:
    """Of every reward that is a reward model: where it was loaded from, its lineage in words, and as recorded."""
    named = ((f"reward {i}, {reward_name(f)}", getattr(f, "report", None), f) for i, f in enumerate(functions, start=1))
    return {
        name: {
            "place": getattr(function, "place", None),
            "says": lineage_lines(report),
            "lineage": report.get("lineage"),
        }
        for name, report, function in named
        if report is not None
    }


def _of_reward(name: str, function: Any) -> Inputs:
    """The digest of a reward, those of its parts, and those of a reward model's lineage."""
    report = getattr(function, "report", None)  # a reward model has one, a function none
    origin = {f"{name}: {part}": digest for part, digest in lineage_digests(report).items()} if report else {}
    return _of_function(name, function) | origin


def _of_function(name: str, function: Any) -> Inputs:
    from rewards.combination import CombinedReward

    own = type(function).__module__.split(".")[0] in OUR_PACKAGES
    if own and hasattr(function, "identity"):  # a reward of this package says itself what its numbers depend on
        return {name: value_digest(function.identity())}
    if isinstance(function, CombinedReward):
        bounds = [[reward_name(c.reward), c.at_least, c.at_most] for c in function.constraints]
        weights = [[reward_name(part), weight] for part, weight in function.parts]
        found: Inputs = {name: value_digest([weights, bounds, function.penalty])}
        parts = [part for part, _ in function.parts] + [constraint.reward for constraint in function.constraints]
        for part in parts:
            found |= _of_reward(f"{name}: {reward_name(part)}", part)
        return found
    return {name: source_digest(function)}


def source_digest(function: Callable[..., Any]) -> str | None:
    """The source file of a function, or of a callable object's class; None where it has none that can be read."""
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    code: Any = function if inspect.isroutine(function) or inspect.isclass(function) else type(function)
    try:
        if str(code.__module__).split(".")[0] in OUR_PACKAGES:
            return value_digest(inspect.getsource(code))
        return file_digest(Path(inspect.getsourcefile(code) or ""))
    except (OSError, TypeError):
        return None


def changed_inputs(then: Mapping[str, str | None], today: Mapping[str, str | None]) -> list[str]:
    """Names of the inputs that are no longer what they were; one whose digest is None cannot be told."""
    names = [*today, *(name for name in then if name not in today)]

    def differs(name: str) -> bool:
        if name not in then or name not in today:
            return True
        return then[name] is not None and today[name] is not None and then[name] != today[name]

    return [name for name in names if differs(name)]


def changed_since(record: Mapping[str, Any], today: Inputs, *, only: str = "") -> list[str]:
    """The inputs of the run with this run.json that are others today; `only` those whose names begin so.

    Lineage is compared where the run knows it: one begun before it was recorded does not.
    """
    knows = "reward_origins" in record
    then = {name: digest for name, digest in record.get("inputs", {}).items() if name.startswith(only)}
    changed = changed_inputs(then, {name: digest for name, digest in today.items() if knows or not is_lineage(name)})
    return changed if then else []


def is_lineage(name: str) -> bool:
    """Whether an input is the origin of a reward model, not what it computes."""
    return name.rpartition(": ")[2] in lineage_digests({})


def told(changed: Sequence[str], origins: Mapping[str, Mapping[str, Any]]) -> str:
    """Names of changed inputs for a message; a reward model by the directory it was loaded from."""
    names = []
    for name in changed:
        reward, colon, part = name.partition(": ")
        place = origins.get(reward, {}).get("place")
        names.append(f"{reward.split(',')[0]}, {place}{colon}{part}" if place and colon else name)
    return "; ".join(names)
