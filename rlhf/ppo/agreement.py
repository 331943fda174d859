"""Whether all processes of a run are about to do the same: code, libraries, options, inputs, the state to go on from.

Processes that differ do not fail by themselves: they hang in a collective that only some come to, or train on a mixture
that no command names. So what a run depends on is compared by digests, with the main process's, before it matters.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlhf.foundation.digests import file_digest, value_digest
from rlhf.foundation.errors import InputError
from rlhf.foundation.host import versions
from rlhf.foundation.model_digests import Inputs
from rlhf.ppo.distributed import Processes
from rlhf.ppo.state import State
from rlhf.runs.provenance import OUR_PACKAGES

GO_ON = "then start again; a run that had begun goes on with --resume"
LONGEST = 200  # characters of an option's value in a message


def require_same_program(processes: Processes) -> None:
    """Raise InputError when a process runs other code of ours or other versions of what decides a run's numbers."""
    facts = {**versions(), "rlhf's own source": own_source()}
    _require_same(processes, facts, "install the same everywhere")


def require_same_options(processes: Processes, resolved: Mapping[str, Any]) -> None:
    """Raise InputError, with both values, when an option is another one on some process."""
    for rank, name, theirs, ours in _differences(processes, resolved):
        raise InputError(
            f"--{name}",
            got=f"{_cut(theirs)} on rank {rank}, {_cut(ours)} on rank 0",
            expected="the same options on every process",
            fix=f"give one command to all of them, {GO_ON}",
        )


def require_same_inputs(processes: Processes, inputs: Inputs) -> None:
    """Raise InputError when a model, prompts or a reward are others on some process."""
    _require_same(processes, inputs, "give every process the same files")


def require_same_state(processes: Processes, saved: State | None) -> None:
    """Raise InputError when the processes would go on from different states of the run; None is a run without one."""
    number = str(saved.next_iteration) if saved else "none"
    facts = {"state to go on from": number, "what is in it": value_digest(saved.values if saved else None)}
    _require_same(processes, facts, "let every process see the same --output_dir")


@functools.cache
def own_source() -> str:
    """A digest of all our source files."""
    packages = Path(__file__).parents[2]
    files = sorted(path for name in OUR_PACKAGES for path in (packages / name).rglob("*.py"))
    return value_digest({path.relative_to(packages).as_posix(): file_digest(path) for path in files})


def _require_same(processes: Processes, facts: Mapping[str, str | None], how: str) -> None:
    found = _differences(processes, facts)
    if found:
        rank = found[0][0]
        names = [_named(name, theirs, ours) for r, name, theirs, ours in found if r == rank]
        raise InputError(
            f"rank {rank}",
            got=f"what differs from rank 0: {'; '.join(names)}",
            expected="the same on every process",
            fix=f"{how}, {GO_ON}",
        )


def _differences(processes: Processes, facts: Mapping[str, Any]) -> list[tuple[int, str, Any, Any]]:
    """(rank, name, its value, rank 0's value) of all that differs from the main process's."""
    notes = processes.exchange(dict(facts))
    return [
        (rank, name, note.get(name), notes[0].get(name))
        for rank, note in enumerate(notes)
        for name in dict.fromkeys([*notes[0], *note])
        if note.get(name) != notes[0].get(name)
    ]


def _named(name: str, theirs: str | None, ours: str | None) -> str:
    """A fact by its name, with its values where they are not digests."""
    short = all(value is not None and len(value) < 40 for value in (theirs, ours))
    return f"{name} ({theirs}, not {ours})" if short else name


def _cut(value: object) -> str:
    text = str(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
