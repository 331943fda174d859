"""What an interrupted run needs to continue as if nothing had happened: `state/`, the two latest, swapped atomically.

Parameters and Adam's moments are safetensors, everything else is JSON; there is no generator state, because every
random number is keyed (language_model/randomness.py). A state is written under a temporary name, flushed, and renamed;
`state.json` holds the size and digest of each tensor file, so that a torn one is noticed and the one before it used.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from rlhf.foundation.causal_lm import shape_of
from rlhf.foundation.digests import SEAL, file_digest, write_sealed
from rlhf.foundation.errors import InputError, write_failure
from rlhf.foundation.files import read_as
from rlhf.foundation.model_directory import replacing_directory
from rlhf.ppo.sharding import moments_of, put, put_moments, whole

KEPT = 2
ADAM_TENSORS = ("exp_avg", "exp_avg_sq", "step")


class State(NamedTuple):
    """A state that was read whole."""

    next_iteration: int
    parameters: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    values: dict[str, Any]


def optimizer_tensors(model: torch.nn.Module, optimizer: Any) -> dict[str, Tensor]:
    """Adam's moments and step counts by parameter name: "NAME/exp_avg", ..."""
    return {
        f"{name}/{key}": _on_cpu(tensor)
        for name, parameter in model.named_parameters()
        for key, tensor in moments_of(optimizer, parameter).items()
        if key in ADAM_TENSORS
    }


def _on_cpu(tensor: Tensor) -> Tensor:
    return whole(tensor).detach().cpu().contiguous().clone()


def restore_optimizer(model: torch.nn.Module, optimizer: Any, tensors: Mapping[str, Tensor]) -> None:
    """Put `optimizer_tensors` back, on their parameter's device."""
    for name, parameter in model.named_parameters():
        if f"{name}/exp_avg" in tensors:
            put_moments(optimizer, parameter, {key: tensors[f"{name}/{key}"] for key in ADAM_TENSORS})


def trained_parameters(model: torch.nn.Module) -> dict[str, Tensor]:
    """The parameters that training changes, by name, on the CPU."""
    return {n: _on_cpu(p) for n, p in model.named_parameters() if p.requires_grad}


def restore_parameters(model: torch.nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put `trained_parameters` back. Raises InputError when they belong to another model."""
    own = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if own.keys() != tensors.keys() or any(shape_of(own[n]) != t.shape for n, t in tensors.items()):
        raise InputError(
            "--resume",
            got="a state of another model",
            expected="the model the run began with",
            fix="give the same --model_name_or_path as the run's run.json",
        )
    for name, parameter in own.items():
        put(parameter, tensors[name])


def save_state(directory: Path, state: State) -> None:
    """Write a state into `directory`/NUMBER and remove all but the two latest. Raises InputError on a full disk."""
    with replacing_directory(directory / f"{state.next_iteration:06d}", marker="state.json") as temporary:
        save_file(state.parameters, temporary / "parameters.safetensors")
        save_file(state.optimizer, temporary / "optimizer.safetensors")
        digests = {path.name: file_digest(path) for path in sorted(temporary.iterdir())}
        values = {**state.values, "next_iteration": state.next_iteration, "files": digests}
        write_sealed(temporary / "state.json", values)
    remove_older(directory)


def remove_older(directory: Path) -> None:
    """Remove all states but the latest. Raises InputError when the disk refuses."""
    try:
        for old in _numbered(directory)[KEPT:]:
            shutil.rmtree(old)
    except OSError as error:
        raise write_failure(directory, error) from error


def load_state(directory: Path) -> State | None:
    """The latest whole state, or None when there is none yet; a torn one is passed over and said on stderr.

    Raises InputError when states are there but none is whole.
    """
    torn: list[str] = []
    for path in _numbered(directory):
        try:
            state = _read(path)
        except (InputError, OSError, SafetensorError, KeyError) as error:
            torn.append(f"{path} is torn ({error})")
            continue
        for line in torn:
            print(f"rlhf: {line}; trying the state before it", file=sys.stderr)
        return state
    if torn:
        raise InputError(
            str(directory),
            got=f"no whole state: {', '.join(torn)}",
            expected="one that can be read",
            fix="start anew in another output directory",
        )
    return None


def _read(path: Path) -> State:
    said = read_as(
        path / "state.json",
        lambda said: {**said, "files": dict(said["files"]), "next_iteration": int(said["next_iteration"])},
    )
    values = {key: value for key, value in said.items() if key != SEAL}
    for name, digest in values.pop("files").items():
        if file_digest(path / name) != digest:
            raise InputError(str(path / name), got="another digest", expected="the one in state.json", fix="see above")
    return State(
        values.pop("next_iteration"),
        load_file(path / "parameters.safetensors"),
        load_file(path / "optimizer.safetensors"),
        values,
    )


def _numbered(directory: Path) -> list[Path]:
    """State directories, the latest first."""
    return sorted((p for p in directory.glob("[0-9]*") if p.is_dir()), reverse=True)
