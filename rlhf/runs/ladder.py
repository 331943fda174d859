"""The ladder: checkpoints at equal steps of sqrt(KL), each with its own fresh evaluation samples.

A rung is the policy that generated the rollout whose sqrt(KL) passed the next step, saved before its update. When one
iteration crosses two steps one rung is saved, named by the last step passed. Names are targets in nats: "kl-02.25" is
the step sqrt(KL) = 1.5. A policy more than a step from its target is named by its own KL.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlhf.foundation.digests import FileDigest, damage, write_sealed
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_json


@dataclass(frozen=True, slots=True)
class Rung:
    """One checkpoint. KL in nats per completion, measured on `n` fresh samples; `se` are standard errors.

    `files` has size and digest of every file of checkpoint and samples by its path in the run; None in ladders that
    were written before they were recorded.
    """

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
    files: Mapping[str, FileDigest] | None = None

    def damage(self, root: Path, place: str, *, sizes_only: bool = False) -> str | None:
        """What is wrong with the rung's files at `place` (its `path` or `samples`), in words; None when nothing is.

        None too where their digests were not recorded. `root` is the run directory.
        """
        own = {name: known for name, known in (self.files or {}).items() if f"{name}/".startswith(f"{place}/")}
        return damage(root, own, sizes_only=sizes_only)


NAME = re.compile(r"kl-\d+\.\d+|final")


def rung_name(sqrt_kl: float, taken: Sequence[str] = ()) -> str:
    """The name of a KL in nats, two places before and after the point; more where that name is taken."""
    places = 2
    while (name := f"kl-{sqrt_kl**2:0{places + 3}.{places}f}") in taken and places < 12:
        places += 1
    return name


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

    def cut_after(self, name: str) -> None:
        """Leave out the rungs that came after the one of that name; their targets are free again."""
        names = [rung.name for rung in self.rungs]
        del self.rungs[names.index(name) + 1 :]

    def write(self) -> None:
        """Write ladder.json atomically."""
        rungs = [asdict(rung) for rung in self.rungs]
        write_sealed(self.path, {"budget_nats": self.budget, "step_sqrt_kl": self.step, "rungs": rungs})

    def name_for(self, target: float | None, kl: float) -> str:
        """The name of a rung at `kl` nats (measured on its own samples) that passed `target`; "final" for None."""
        if target is None:
            return "final"
        sqrt_kl = math.sqrt(max(kl, 0.0))
        far = abs(sqrt_kl - target) > self.step
        return rung_name(sqrt_kl if far else target, [rung.name for rung in self.rungs])

    def overshot(self, kl: float) -> bool:
        """Whether a policy at `kl` nats lies beyond the budget by more than a step of the ladder."""
        return math.sqrt(max(kl, 0.0)) > math.sqrt(self.budget) + self.step

    def budget_reached(self, kl: float) -> str:
        """Why a run ends that has come to `kl` nats."""
        far = f", and passed: {kl:.1f}" if self.overshot(kl) else ""
        return f"KL budget of {self.budget:g} nats per completion reached{far}"


def read_rungs(path: Path) -> list[Rung]:
    """The rungs of a ladder.json. Raises InputError when the file is missing, torn or of another shape."""
    content: Any = read_json(path)
    try:
        return to_rungs(content["rungs"])
    except (KeyError, TypeError) as error:
        raise InputError(
            str(path),
            got=f"a ladder of another shape ({error})",
            expected="the rungs that `rlhf ppo` writes",
            fix="check that the file belongs to a run directory",
        ) from error


def to_rungs(rows: Sequence[Mapping[str, Any]]) -> list[Rung]:
    """Rungs from the rows that `asdict` made of them. Raises TypeError on rows of another shape."""
    return [Rung(**row) for row in rows]
