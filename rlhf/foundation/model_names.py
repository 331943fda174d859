"""Whether a model's name can be one, told without loading what loads models."""

from __future__ import annotations

from pathlib import Path

from rlhf.foundation.errors import InputError
from rlhf.foundation.leftovers import sweep
from rlhf.foundation.model_pair import Model


def require_names(*models: Model | None) -> None:
    """Raise InputError for a model that is meant as a directory but is not there: it must not become a question to the
    hub. Models in memory, and None, are passed over."""
    for name_or_path in models:
        if isinstance(name_or_path, str) and not _is_directory_or_hub_name(name_or_path):
            raise InputError(
                f"model {name_or_path!r}",
                got="a file" if Path(name_or_path).exists() else "no such directory",
                expected="a model directory or a hub name",
                fix="check the path",
            )


def _is_directory_or_hub_name(name_or_path: str) -> bool:
    path = Path(name_or_path)
    if not path.exists():
        sweep(path.parent, path.name)  # killed while it was replaced, the model stands in a hidden directory
    hub_name = name_or_path.count("/") <= 1 and not name_or_path.startswith((".", "/", "~")) and bool(name_or_path)
    return path.is_dir() or (hub_name and not path.exists())
