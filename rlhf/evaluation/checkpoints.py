"""A rung's checkpoint as a model: checked against what ladder.json says was written, an adapter on its own base."""

from __future__ import annotations

from typing import Any

import torch

from rlhf.foundation.adapters import adapter_base, load_adapter, merged
from rlhf.foundation.errors import InputError
from rlhf.foundation.four_bit import base_of_adapter
from rlhf.foundation.model_digests import weights_digest
from rlhf.foundation.model_directory import load_causal_lm
from rlhf.foundation.recorded_paths import locate
from rlhf.runs.ladder import Rung
from rlhf.runs.reading import Run


def require_whole(run: Run, rung: Rung) -> None:
    """Raise InputError when a file of the rung's checkpoint is gone, cut or changed."""
    wrong = rung.damage(run.directory, rung.path)
    if wrong or not (run.directory / rung.path).is_dir():
        raise InputError(
            f"rung {rung.name} of {run.directory}",
            got=wrong or f"no {rung.path}",
            expected="the checkpoint as the run wrote it",
            fix="restore it from a copy, choose another rung, or remove its directory to evaluate the others",
        )


def load_rung(run: Run, rung: Rung, *, dtype: torch.dtype | None = None) -> Any:
    """A rung's model in eval mode on the CPU, in the run's own dtype if none is given; an adapter merged into its base,
    or on it where that is in four bits, as it was trained.

    Raises InputError when the checkpoint, or the base of an adapter, is not what it was.
    """
    require_whole(run, rung)
    checkpoint = str(run.directory / rung.path)
    trained = getattr(torch, run.info.get("resolved", {}).get("dtype", "float32"))
    dtype = dtype or trained
    base_name = adapter_base(checkpoint)
    if base_name is None:
        return load_causal_lm(checkpoint, dtype=dtype)
    four_bit = base_of_adapter(checkpoint)
    base = load_causal_lm(locate(run.info, run.directory, base_name), dtype=dtype, four_bit=four_bit)
    known = run.info.get("inputs", {}).get("original model's weights")
    if known is not None and dtype == trained and weights_digest(base) != known:
        raise InputError(
            f"rung {rung.name} of {run.directory}",
            got="an adapter whose base is no longer what it was",
            expected="the original model that the run began with",
            fix="restore it",
        )
    adapted = load_adapter(base, checkpoint)
    return merged(adapted, checkpoint) if four_bit is None else adapted
