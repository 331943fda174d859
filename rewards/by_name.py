"""A reward function by its name: a rule of this package, or FILE.py:NAME, a function in a file of one's own."""

from __future__ import annotations

import importlib.util
import os
import sys
import traceback
from pathlib import Path
from typing import Any, cast

from rewards.rules import RULES, RewardFunc
from rlhf.foundation.errors import InputError

FORMS = "FILE.py:NAME, FILE.yaml, or a model's directory or hub name, with :LABEL where it has several"
_A_PATH = ("./", "../", "/", "~")
_YAML = (".yaml", ".yml")


def require_place(name: object) -> None:
    """Raise InputError for a reward's name that begins as a path does (./, ../, /, ~) and leads to no directory.

    Told without loading what loads models; what is in memory is passed over.
    """
    if not isinstance(name, str) or not name.startswith(_A_PATH) or ".py:" in name or name.endswith(_YAML):
        return
    if not os.path.isdir(name) and not os.path.isdir(name.rpartition(":")[0]):
        raise InputError(
            f"reward {name}",
            got="a file" if os.path.exists(name) else "no such directory",
            expected="a directory of `rlhf reward` or of a sequence classifier",
            fix="check the path, or make one with `rlhf reward`",
        )


def names_a_function(spec: str) -> bool:
    """Whether a reward's name is a rule's or FILE.py:NAME, or can be nothing else: no file, directory or hub name."""
    file = spec.rpartition(":")[0]
    if spec in RULES or file.endswith(".py"):
        return True
    return not (os.path.exists(spec) or os.path.exists(file) or "/" in spec or spec.endswith(_YAML))


def load_function(spec: str) -> RewardFunc:
    """The reward function that `spec` names: a rule, or `FILE.py:NAME`.

    Raises InputError for an unknown name, a missing file, a file that fails while it is imported (with the line of
    that file), a missing name, or a value that is not callable.
    """
    if spec in RULES:
        return RULES[spec]
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
    return InputError(f"reward function {spec}", got=got, expected=f"one of {', '.join(RULES)}, {FORMS}", fix=fix)


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
