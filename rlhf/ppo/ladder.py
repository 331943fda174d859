"""The ladder: checkpoints at equal steps of sqrt(KL), each with its own fresh evaluation samples.

A rung is the policy that generated the rollout whose sqrt(KL) passed the next step, saved before its update. When one
iteration crosses two steps one rung is saved, named by the last step passed. Names are targets in nats: "kl-02.25" is
the step sqrt(KL) = 1.5.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_json, write_json


@dataclass(frozen=True, slots=True)
class Rung:
    """One checkpoint. KL in nats per completion, measured on `n` fresh samples; `se` are standard errors."""

    name: str
    target_sqrt_kl: float | None
    kl_per_completion: float
    kl_per_completion_se: float
    iteration: int
    completions_seen: int
    optimizer_steps: int
    reward: float
    reward_se: float
    n: int
    path: str
    samples: str


def rung_name(target_sqrt_kl: float) -> str:
    """The name of a step: its KL in nats, two places before and after the point."""
    return f"kl-{target_sqrt_kl**2:05.2f}"


class Ladder:
    """The rungs so far, kept in ladder.json; `step` is in sqrt(nats), `budget` in nats per completion."""

    def __init__(self, path: Path, *, step: float, budget: float) -> None:
        self.path, self.step, self.budget = path, step, budget
        self.rungs: list[Rung] = []

    def target_passed(self, kl: float) -> float | None:
        """The last target that a policy at `kl` nats has passed and no rung stands for; None when there is none.

        Targets are 0, step, 2·step, ... and the budget's own root.
        """
        sqrt_kl = math.sqrt(max(kl, 0.0))
        below_budget = min(sqrt_kl, math.sqrt(self.budget))
        target = math.floor(below_budget / self.step + 1e-9) * self.step
        if kl >= self.budget:
            target = math.sqrt(self.budget)
        taken = max((r.target_sqrt_kl for r in self.rungs if r.target_sqrt_kl is not None), default=-1.0)
        return target if target > taken + 1e-9 else None

    def add(self, rung: Rung) -> None:
        """Add a rung and write ladder.json atomically."""
        self.rungs.append(rung)
        self.write()

    def write(self) -> None:
        """Write ladder.json atomically."""
        rungs = [asdict(rung) for rung in self.rungs]
        write_json(self.path, {"budget_nats": self.budget, "step_sqrt_kl": self.step, "rungs": rungs})

    def restore(self, before_iteration: int) -> None:
        """Read the file of an interrupted run and keep the rungs of iterations before the one to be repeated."""
        if self.path.exists():
            self.rungs = [rung for rung in read_rungs(self.path) if rung.iteration < before_iteration]

    def remove_strays(self) -> None:
        """Delete checkpoints and samples that no rung names: an interrupted run left them and will make them again."""
        names = {rung.name for rung in self.rungs}
        for stray in (p for p in (self.path.parent / "checkpoints").glob("*") if p.name not in names):
            shutil.rmtree(stray)
        for stray in (p for p in (self.path.parent / "samples").glob("*") if p.stem not in names):
            stray.unlink()


def read_rungs(path: Path) -> list[Rung]:
    """The rungs of a ladder.json. Raises InputError when the file is missing, torn or of another shape."""
    content: Any = read_json(path)
    try:
        return [Rung(**rung) for rung in content["rungs"]]
    except (KeyError, TypeError) as error:
        raise InputError(
            str(path),
            got=f"a ladder of another shape ({error})",
            expected="the rungs that `rlhf ppo` writes",
            fix="check that the file belongs to a run directory",
        ) from error
