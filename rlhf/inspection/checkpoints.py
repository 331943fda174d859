"""A rung's checkpoint as a model: checked against what ladder.json says was written, an adapter on its own base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from rlhf.foundation.adapters import load_adapter
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_json
from rlhf.foundation.model_directory import load_causal_lm
from rlhf.inspection.run_directory import Run
from rlhf.ppo.ladder import Rung
from rlhf.ppo.provenance import weights_digest
from rlhf.ppo.run_paths import locate


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


def load_rung(run: Run, rung: Rung, *, dtype: torch.dtype = torch.float32) -> Any:
    """A rung's model in eval mode on the CPU. Raises InputError when it, or an adapter's base, is not what it was."""
    require_whole(run, rung)
    checkpoint = run.directory / rung.path
    if not (checkpoint / "adapter_config.json").is_file():
        return load_causal_lm(str(checkpoint), dtype=dtype)
    base = load_causal_lm(_base_of(run, checkpoint), dtype=dtype)
    known = run.info.get("inputs", {}).get("original model's weights")
    if known is not None and str(dtype).endswith(run.info["resolved"]["dtype"]) and weights_digest(base) != known:
        raise InputError(
            f"rung {rung.name} of {run.directory}",
            got="an adapter whose base is no longer what it was",
            expected="the original model that the run began with",
            fix="restore it",
        )
    return load_adapter(base, str(checkpoint))


def _base_of(run: Run, checkpoint: Path) -> str:
    """Directory or hub name of the model that an adapter stands on, which the run may have named from elsewhere."""
    return locate(
        run.info, run.directory, str(read_json(checkpoint / "adapter_config.json")["base_model_name_or_path"])
    )
