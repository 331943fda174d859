"""Packaged recipes and YAML files of options: rlhf/recipes/NAME.yaml by its name, any other file by its path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlhf.foundation.errors import InputError
from rlhf.foundation.yaml_files import read_yaml

RECIPES = Path(__file__).parents[1] / "recipes"


def recipe_names() -> list[str]:
    """Names of the packaged recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def read_config(name: str) -> dict[str, Any]:
    """The keys of a YAML file, or of a packaged recipe of that name. Raises InputError."""
    path = Path(name)
    if not path.suffix and not path.exists():
        path = RECIPES / f"{name}.yaml"
        if not path.exists():
            raise InputError(
                "--config",
                got=name,
                expected=f"a YAML file or one of the recipes {', '.join(recipe_names())}",
                fix="check the name",
            )
    return read_yaml(path, f"--config {name}")
