"""Packages that few need and that an extra of this project brings: asked for in one line, before anything is loaded."""

from __future__ import annotations

import importlib.util

from rlhf.foundation.errors import InputError


def require_bitsandbytes(what: str) -> None:
    """Raise InputError, about `what`, where bitsandbytes is not installed; loads nothing."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise InputError(
            what,
            got="no bitsandbytes in this environment",
            expected="the extra `4bit`",
            fix="pip install 'rlhf-ladder[4bit]'",
        )
