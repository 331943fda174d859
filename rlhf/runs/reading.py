"""Reading a PPO run directory back: run.json, metrics.jsonl, ladder.json and the samples of every rung."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_json
from rlhf.foundation.records import Sample, read_samples
from rlhf.runs.ladder import Rung, read_rungs
from rlhf.runs.metrics_file import read_metrics_file

# Present on every line, whatever happened: without these there is nothing to draw.
NEEDED = ("iteration", "reward", "kl_per_completion", "optimizer_steps")
SHOWN = 3  # damaged rungs named in a line
RUNG_NUMBERS = ("kl_per_completion", "iteration", "reward")


def sqrt_kl(kl: float) -> float:
    """√KL in √nats; an estimate a hair below zero counts as zero."""
    return math.sqrt(max(kl, 0.0))


# Of `method` in run.json, which runs of `rlhf align` have.
METHODS = {"sft": "SFT", "dpo": "DPO", "kto": "KTO", "rejection": "rejection sampling", "grpo": "GRPO", "rloo": "RLOO"}
FROM_TEXTS = ("SFT", "DPO", "KTO")  # learn from given texts and sample nothing for it


def run_name(directory: Path) -> str:
    """The directory's own name, or its parent's too when it is the demo's plain `ppo`."""
    path = directory.resolve()
    return f"{path.parent.name}/{path.name}" if path.name == "ppo" else path.name


@dataclass(frozen=True, slots=True)
class Run:
    """A run directory read into memory; rungs go up in KL, `metrics` has one row an iteration."""

    directory: Path
    info: dict[str, Any]
    metrics: list[dict[str, Any]]
    rungs: list[Rung]
    budget_nats: float | None

    @property
    def name(self) -> str:
        """What the run is called beside others."""
        return run_name(self.directory)

    @property
    def method(self) -> str:
        """What trained the policy, as people write it."""
        return METHODS.get(str(self.info.get("method")), "PPO")

    @property
    def completion_length(self) -> int:
        """Tokens of a completion at most."""
        said = self.info.get("resolved", {}).get("max_completion_length")
        return said if isinstance(said, int) else 32

    @property
    def running(self) -> bool:
        """Whether run.json still says that the trainer is at work."""
        return self.info.get("status") == "running"


def read_run(directory: Path, *, tell: bool = True, tell_torn: bool = True) -> Run:
    """Read a run directory. Raises InputError when it is none, has no metrics yet, or holds a torn or NaN value.

    Rungs whose files are gone, cut or changed are told on stderr, if `tell`; a torn last line, if `tell_torn`.
    """
    if not (directory / "run.json").is_file():
        raise InputError(
            str(directory),
            got="a directory without run.json" if directory.is_dir() else "no such directory",
            expected="a run directory",
            fix="give the --output_dir of `rlhf ppo` or `rlhf align` (the demo's is runs/demo/ppo)",
        )
    info = read_json(directory / "run.json")
    if not isinstance(info, dict):
        raise bad_file(directory / "run.json", f"a JSON {type(info).__name__}", "a JSON object")
    if not isinstance(info.get("config"), dict):
        raise bad_file(directory / "run.json", "JSON of another shape", "the `config` and outcome of a run")
    metrics = read_metrics(directory / "metrics.jsonl", tell=tell_torn)
    rungs, budget = read_ladder(directory / "ladder.json")
    run = Run(directory, info, metrics, rungs, budget)
    told = damage_of(run) if tell else None
    if told:
        print(f"rlhf: {directory}: {told}", file=sys.stderr)
    return run


def damage_of(run: Run) -> str | None:
    """What is wrong with the files of the rungs, in words: checkpoints by their sizes, samples by their content."""
    silent = [rung.name for rung in run.rungs if rung.files is None]
    found = [f"{', '.join(silent)}: no digests in ladder.json, so whether the files are whole could not be checked"]
    found = found if silent else []
    for rung in run.rungs:
        wrong = rung.damage(run.directory, rung.path, sizes_only=True) or rung.damage(run.directory, rung.samples)
        if wrong:
            found.append(f"rung {rung.name}: {wrong}")
    more = f"; and {len(found) - SHOWN} more rungs" if len(found) > SHOWN else ""
    return "; ".join(found[:SHOWN]) + more if found else None


def bad_file(place: Path | str, got: str, expected: str) -> InputError:
    """The line for a file of a run that is not as `rlhf ppo` writes it."""
    fix = "restore the file, or finish the run with `rlhf ppo --resume`"
    return InputError(str(place), got=got, expected=expected, fix=fix)


def read_metrics(path: Path, *, tell: bool = True) -> list[dict[str, Any]]:
    """Rows of metrics.jsonl. Raises InputError when there are none, one is torn, or a number is not finite.

    A torn last line is passed over, as on resuming.
    """
    rows = read_metrics_file(path, tell=tell)
    if not rows:
        raise InputError(
            str(path),
            got="no metrics yet",
            expected="at least one finished iteration",
            fix="wait for the run's first iteration, or look at why it stopped",
        )
    for number, row in enumerate(rows, start=1):
        for key in NEEDED:
            if not isinstance(row.get(key), (int, float)):
                raise bad_file(f"{path}, line {number}", f"{row.get(key)!r} for '{key}'", "a number")
        for key, value in row.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise bad_file(f"{path}, line {number}", f"{value} for '{key}'", "a finite number or null")
    return rows


def read_ladder(path: Path) -> tuple[list[Rung], float | None]:
    """Rungs in order of KL, and the budget in nats. A missing file is an empty ladder; a torn one an InputError."""
    if not path.exists():
        return [], None
    rungs = read_rungs(path)
    for number, rung in enumerate(rungs, start=1):
        for key in RUNG_NUMBERS:
            value = getattr(rung, key)
            if not isinstance(value, (int, float)) or not math.isfinite(value):
                raise bad_file(f"{path}, rung {number}", f"{value!r} for '{key}'", "a finite number")
    return sorted(rungs, key=lambda rung: rung.kl_per_completion), read_json(path).get("budget_nats")


def samples_folder(evaluated: str) -> str | None:
    """`Evaluation.samples` as `read_ladder_samples` takes it: None for the trainer's own folder."""
    return None if evaluated == "samples" else evaluated


def read_stored_samples(run: Run, folder: str | None = None) -> dict[str, list[Sample]]:
    """Samples of every rung that has some, by rung name, in the ladder's order.

    `folder` names another folder of the run with files NAME.jsonl (fresh samples of `rlhf evaluate`). Where a run went
    on with other prompts, its rungs do not hold the same ones.
    """
    places = {
        rung.name: run.directory / (rung.samples if folder is None else f"{folder}/{rung.name}.jsonl")
        for rung in run.rungs
    }
    return {name: read_samples(path) for name, path in places.items() if path.exists()}


def read_ladder_samples(run: Run, folder: str | None = None) -> dict[str, list[Sample]]:
    """As `read_stored_samples`, held to pair: row i has the same prompt and seed on every rung. Else an InputError."""
    found = read_stored_samples(run, folder)
    first = next(iter(found), "")
    for name, rows in found.items():
        for number, (here, there) in enumerate(zip(rows, found[first], strict=False), start=1):
            if (here.prompt, here.seed) != (there.prompt, there.seed):
                raise InputError(
                    f"{run.directory / (folder or 'samples')}: {name}, record {number}",
                    got="another prompt or seed than on rung " + first,
                    expected="the same prompt and seed in the same row of every rung",
                    fix="make the samples anew with `rlhf evaluate`",
                )
    return found


def measured_prompts(run: Run) -> list[str]:
    """The prompts that a run's last rung was measured on, each once; [""] where no rung has samples."""
    last = next(reversed(read_stored_samples(run).values()), [])
    return list(dict.fromkeys(sample.prompt for sample in last)) or [""]
