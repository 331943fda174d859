"""What a resumed run finds in its directory: refused where files are missing, rebuilt where the state knows them.

Nothing is deleted. What lies beyond the last state is made again, so it is moved to RUN/strays/, and told; what no run
could have written is left where it is.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rlhf.foundation.errors import InputError
from rlhf.foundation.files import append_jsonl, write_jsonl
from rlhf.foundation.leftovers import sweep
from rlhf.ppo.state import State, remove_older
from rlhf.runs.ladder import NAME, Ladder, Rung, read_rungs, to_rungs
from rlhf.runs.metrics_file import read_metrics_file
from rlhf.runs.writing import RunDirectory


def require_whole(run: RunDirectory, saved: State | None) -> None:
    """Raise InputError when a file is missing without which the run cannot go on; nothing is touched."""
    if saved is None:
        _require_nothing_beyond_the_first_iteration(run)
        return
    rows = len(read_metrics_file(run.metrics, tell=False))
    if rows < saved.next_iteration:
        got = f"{rows} whole lines" if run.metrics.exists() else "no such file"
        raise _missing(run.metrics, got, f"the {saved.next_iteration} iterations before the last state")
    if "rungs" not in saved.values and not run.ladder.exists():
        raise _missing(run.ladder, "no such file", "the rungs of the run")


def rungs_to_keep(run: RunDirectory, saved: State | None) -> list[Rung]:
    """The rungs of the iterations before the state's, from the state itself, or from the ladder.json of an old run."""
    if saved is None:
        return []
    if "rungs" in saved.values:
        return to_rungs(saved.values["rungs"])
    return [rung for rung in read_rungs(run.ladder) if rung.iteration < saved.next_iteration]


def make_way(run: RunDirectory, kept: Sequence[Rung], iteration: int) -> None:
    """Leave in the run directory what comes before `iteration`; only for who holds it."""
    sweep_run(run)
    tell_damage(run, kept)
    set_aside(run, kept, iteration, "it is made again")


def tell_damage(run: RunDirectory, kept: Sequence[Rung]) -> None:
    """Say which rungs' files are gone or cut, and whether ladder.json is; the run goes on without them."""
    if kept and not _ladder_names(run):
        print(f"rlhf: {run.ladder} is missing or unreadable; written again from {run.state}", file=sys.stderr)
    for rung in kept:
        wrong = [rung.damage(run.root, place, sizes_only=True) for place in (rung.path, rung.samples)]
        if any(wrong):
            told = "; ".join(filter(None, wrong))
            print(f"rlhf: rung {rung.name}: {told}; the run goes on, the rung stays so", file=sys.stderr)


def set_aside(run: RunDirectory, kept: Sequence[Rung], iteration: int, why: str) -> None:
    """Keep `iteration` lines of metrics.jsonl and the rungs `kept`; move what lies beyond to strays/ and say `why`."""
    moved = []
    rows = read_metrics_file(run.metrics)
    if rows[iteration:]:
        run.strays.mkdir(exist_ok=True)
        for row in rows[iteration:]:
            append_jsonl(run.strays / "metrics.jsonl", row)
        moved.append(f"{len(rows) - iteration} line{'s' if len(rows) > iteration + 1 else ''} of metrics.jsonl")
    if run.metrics.exists():
        write_jsonl(run.metrics, rows[:iteration])
    names = {rung.name for rung in kept}
    for path in _of_rungs(run):
        if _rung_of(path) not in names:
            moved.append(str(path.relative_to(run.root)))
            _move(path, run.strays / path.parent.name)
    if moved:
        print(f"rlhf: moved to {run.strays}, since {why}: {', '.join(moved)}", file=sys.stderr)


def leave(run: RunDirectory, ladder: Ladder, iteration: int, why: str) -> None:
    """Write a ladder that was cut, and move the rungs that it had to strays/."""
    ladder.write()
    set_aside(run, ladder.rungs, iteration, why)


def sweep_run(run: RunDirectory) -> None:
    """Clear away a killed process's temporaries and the states it had no time to; only for who holds the run."""
    for folder in (run.root, run.root / "checkpoints", run.root / "samples", run.state):
        sweep(folder)
    remove_older(run.state)


def _rung_of(path: Path) -> str:
    return path.stem if path.parent.name == "samples" else path.name


def _of_rungs(run: RunDirectory) -> list[Path]:
    """Checkpoints and samples that bear a rung's name; anything else there is the user's own."""
    found = [*(run.root / "checkpoints").glob("*"), *(run.root / "samples").glob("*.jsonl")]
    return sorted(path for path in found if NAME.fullmatch(_rung_of(path)))


def _move(path: Path, folder: Path) -> None:
    """Move a file or directory into `folder`, under a numbered name where its own is taken."""
    folder.mkdir(parents=True, exist_ok=True)
    target, number = folder / path.name, 1
    while target.exists():
        number += 1
        target = folder / f"{path.name}.{number}"
    path.rename(target)


def _ladder_names(run: RunDirectory) -> list[str]:
    """Names of the rungs in ladder.json; [] when it is missing or unreadable."""
    try:
        return [rung.name for rung in read_rungs(run.ladder)]
    except InputError:
        return []


def _require_nothing_beyond_the_first_iteration(run: RunDirectory) -> None:
    """Without a state a run can only have been stopped in its first iteration."""
    rows = len(read_metrics_file(run.metrics, tell=False))
    rungs = len({_rung_of(path) for path in _of_rungs(run)})
    if rows > 1 or rungs > 1:
        raise _missing(
            run.state, f"no state, but {rows} lines of metrics and {rungs} rungs", "what the run goes on from"
        )


def _missing(path: Path, got: str, expected: str) -> InputError:
    return InputError(
        str(path),
        got=got,
        expected=expected,
        fix="restore it from a copy, or begin another run in another --output_dir; nothing here was changed, and the "
        "checkpoints are model directories that load as they are",
    )
