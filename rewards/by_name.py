"""A reward function by its name: a rule, FILE.py:NAME, or several as one in FILE.yaml:

    weights: {full_stop: 1.0, my_rewards.py:shout: 0.5}
    constraints:
      - {reward: full_stop_at_16_to_24, at_least: 1}
      - {reward: length, at_most: 40}
    penalty: -1.0

A part is named like any reward; its file may stand beside the YAML file. combination.py says what is made of them.
"""

from __future__ import annotations

import importlib.util
import math
import sys
import traceback
from pathlib import Path
from typing import Any, cast

from rewards.combination import CombinedReward, Constraint
from rewards.rules import RULES, RewardFunc
from rlhf.foundation.errors import InputError
from rlhf.foundation.yaml_files import read_yaml


def load_reward_func(spec: str) -> RewardFunc:
    """The reward function that `spec` names: a rule of this module, `FILE.py:NAME`, or `FILE.yaml` (combination.py).

    Raises InputError for an unknown name, a missing file, a file that fails while it is imported (with the line of
    that file), a missing name, or a value that is not callable.
    """
    if spec in RULES:
        return RULES[spec]
    if spec.endswith((".yaml", ".yml")):
        return cast(RewardFunc, read_combination(Path(spec)))
    file, separator, name = spec.rpartition(":")
    if not separator or not file.endswith(".py") or not name:
        raise _refuse(spec, "an unknown name", "check the name")
    path = Path(file)
    if not path.is_file():
        raise _refuse(spec, f"no file {file}", "check the path")
    module = _import_file(path, spec)
    if name not in module:
        raise _refuse(spec, f"a file without {name}", f"define {name} in {file}, or name what it defines")
    function = module[name]
    if not callable(function):
        raise _refuse(
            spec, f"a value of type {type(function).__name__}", f"make {name} a function of (prompts, completions, ...)"
        )
    if not isinstance(getattr(function, "__name__", None), str):
        function.__name__ = name  # metrics carry this name; a callable object has none of its own
    return cast(RewardFunc, function)


def _refuse(spec: str, got: str, fix: str) -> InputError:
    return InputError(
        f"reward function {spec}", got=got, expected=f"one of {', '.join(RULES)}, FILE.py:NAME, or FILE.yaml", fix=fix
    )


def _import_file(path: Path, spec: str) -> dict[str, Any]:
    """The names that the file at `path` defines. Raises InputError with the failing line of that file."""
    module_name = f"reward_file_{path.stem}"
    module_spec = importlib.util.spec_from_file_location(module_name, path)
    if module_spec is None or module_spec.loader is None:
        raise _refuse(spec, "a file that Python cannot import", "check the file")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_name] = module  # dataclasses and pickling look a module up by its name
    try:
        module_spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        line = _line_in(path, error)
        raise _refuse(spec, f"{type(error).__name__} at {path}:{line} ({error})", "mend the file") from error
    return vars(module)


def _line_in(path: Path, error: BaseException) -> int:
    """The last line of the file at `path` that took part in `error`."""
    if isinstance(error, SyntaxError) and error.lineno is not None:
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return (lines[-1] if lines else None) or 1


def read_combination(path: Path) -> CombinedReward:
    """The combination in a YAML file, named by the file. Raises InputError naming the key that is wrong."""
    content = read_yaml(path, f"reward file {path}")
    if not isinstance(content.get("weights"), dict) or not content["weights"]:
        raise _bad_file(path, "no weights", "weights: {REWARD: WEIGHT, ...}", "name at least one reward and its weight")
    unknown = sorted(set(content) - {"weights", "constraints", "penalty"})
    if unknown:
        raise _bad_file(path, f"the key {unknown[0]}", "weights, constraints, penalty", "check its spelling")
    parts = [(_load(path, str(spec)), _number(path, spec, w)) for spec, w in content["weights"].items()]
    rows = content.get("constraints") or []
    if not isinstance(rows, list):
        raise _bad_file(path, f"constraints: {rows}", "a list of constraints", "write it as the example has it")
    constraints = [_constraint(path, row) for row in rows]
    return CombinedReward(path.stem, parts, constraints, _number(path, "penalty", content.get("penalty", -1.0)))


def _constraint(path: Path, row: Any) -> Constraint:
    if not isinstance(row, dict) or "reward" not in row or not set(row) <= {"reward", "at_least", "at_most"}:
        raise _bad_file(
            path, f"the constraint {row}", "reward with at_least, at_most or both", "write it as the example has it"
        )
    low = _number(path, "at_least", row.get("at_least", -math.inf))
    high = _number(path, "at_most", row.get("at_most", math.inf))
    if len(row) == 1 or low > high:
        raise _bad_file(path, f"the constraint {row}", "at_least, at_most or both, in this order", "give a bound")
    return Constraint(_load(path, str(row["reward"])), low, high)


def _load(path: Path, spec: str) -> RewardFunc:
    """A part of the combination in `path`; a file that is not in the working directory may stand beside it."""
    file, colon, name = spec.rpartition(":")
    beside = path.parent / file
    return load_reward_func(f"{beside}:{name}" if colon and not Path(file).exists() and beside.exists() else spec)


def _number(path: Path, name: object, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise _bad_file(path, f"{name}: {value}", "a number", "mend the value")
    return float(value)


def _bad_file(path: Path, got: str, expected: str, fix: str) -> InputError:
    return InputError(f"reward file {path}", got=got, expected=expected, fix=fix)
