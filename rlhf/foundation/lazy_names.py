"""Names of a package that load on first use, so that importing it takes no time."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """A module's `__getattr__`; `homes` maps each name to MODULE, or MODULE:NAME where it has another one there."""

    def find(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        # Said when a library first imports tqdm in a notebook; without ipywidgets its bars are text, which will do.
        warnings.filterwarnings("ignore", message="IProgress not found")
        module, _, there = homes[name].partition(":")
        return getattr(importlib.import_module(module), there or name)

    return find
