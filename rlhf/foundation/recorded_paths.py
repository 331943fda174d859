"""Where the files are that a run was begun with, told so that it can be moved and read from any working directory.

run.json records each path as it was given, whole, and relative to the run: moved together with its run a file is found
by the last, left where it was by the second.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from rlhf.foundation.errors import InputError

# Options that name files, or FILE.py:NAME, or something that is no file.
PATHS = {"model_name_or_path", "reward_model_path", "reward_func", "prompts", "eval_prompts", "critic_model_path"}
PATHS |= {"dataset_name"}
# The same of `rlhf reward`, `rlhf pretrain`, `rlhf demo` and `rlhf loop`.
STAGE_PATHS = {"model_name_or_path", "labels", "comparisons", "dataset_name", "samples", "labelled_samples", "corpus"}
STAGE_PATHS |= {"reward_config", "ppo_config"}


def recorded_paths(
    resolved: Mapping[str, Any], root: Path, options: Collection[str] = PATHS
) -> dict[str, dict[str, str]]:
    """The files among a run's options, by the words that gave them; `root` is the run directory."""
    found = {}
    for given in _words(resolved[key] for key in sorted(set(options) & resolved.keys())):
        file, name = _split(given)
        if Path(file).exists():
            whole = os.path.abspath(file)
            relative = os.path.relpath(whole, os.path.abspath(root))
            found[given] = {"absolute": whole, "relative_to_run": relative, "name": name}
    return found


def locate(info: Mapping[str, Any], root: Path, given: str) -> str:
    """Where the file that `given` named is today, with its :NAME; `given` itself where it is at none of its places.

    `info` is the run.json of the run in `root`.
    """
    known = info.get("paths", {}).get(given)
    if known is None:
        return given
    name = _name_in(given, known)
    places = [root / known["relative_to_run"], Path(known["absolute"])]
    return next((os.path.normpath(place) + name for place in places if place.exists()), given)


def located(
    info: Mapping[str, Any], root: Path, resolved: Mapping[str, Any], options: Collection[str] = PATHS
) -> dict[str, Any]:
    """A record's options with every file where it is today. Raises InputError naming the option of one that is gone."""
    found = dict(resolved)
    for key in set(options) & found.keys():
        given = found[key]
        if isinstance(given, list):
            found[key] = [require_located(info, root, key, one) for one in given]
        elif given:
            found[key] = require_located(info, root, key, given)
    return found


def require_located(
    info: Mapping[str, Any], root: Path, option: str, given: str, *, fix: str = "put it back at one of these places"
) -> str:
    """`locate`. Raises InputError naming the option when it is a file that is not found."""
    found = locate(info, root, given)
    known = info.get("paths", {}).get(given)
    if known is not None and not Path(found.removesuffix(_name_in(given, known))).exists():
        raise InputError(
            f"--{option}",
            got=f"neither {known['absolute']} nor {known['relative_to_run']} from the run",
            expected="what the run was made with",
            fix=fix,
        )
    return found


def _words(values: Iterable[Any]) -> list[str]:
    return [word for value in values for word in (value if isinstance(value, list) else [value]) if word]


def _split(given: str) -> tuple[str, str]:
    """FILE.py:NAME and DIRECTORY:LABEL as the path and what stands from the colon on; anything else as it is and ""."""
    file, colon, name = given.rpartition(":")
    is_part = file.endswith(".py") or (bool(file) and Path(file).is_dir() and not Path(given).exists())
    return (file, colon + name) if is_part else (given, "")


def _name_in(given: str, known: Mapping[str, str]) -> str:
    """What stands behind the path in words that were recorded; older records do not say."""
    return known["name"] if "name" in known else _split(given)[1]
