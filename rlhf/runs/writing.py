"""The run directory: who may write it, what it records, and how an interrupted one is cut back to its last state."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhf.foundation.digests import FileDigest, digest_files, write_sealed
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import append_jsonl, read_object
from rlhf.foundation.host import host_facts
from rlhf.foundation.leftovers import leftover_of
from rlhf.foundation.locks import holder, lock_file
from rlhf.foundation.model_digests import Inputs
from rlhf.foundation.recorded_paths import PATHS, recorded_paths
from rlhf.foundation.records import now
from rlhf.runs import replacing
from rlhf.runs.provenance import changed_since, told

# Options that may differ when a run is continued.
FREE_ON_RESUME = {"resume", "overwrite", "quiet", "output_dir", "max_iterations", "kl_budget", "use_cpu", "report_to"}
FREE_ON_RESUME |= {"accept_changes", "straggler_timeout", "vllm_server_base_url", "vllm_server_timeout"}
FREE_ON_RESUME |= {"vllm_group_port", "vllm_gpu_memory_utilization", "guard", "guard_action"}
# Those of them that decide what the run does.
SESSION_OPTIONS = {"max_iterations", "kl_budget", "use_cpu", "guard", "guard_action"}


class RunDirectory:
    """Paths and records of one run; only the main process writes."""

    def __init__(self, output_dir: str) -> None:
        self.root = Path(output_dir)
        self.record: dict[str, Any] = {}
        self._lock: int | None = None
        self._made = self._begun = False

    @property
    def run_json(self) -> Path:
        """Command, configuration, seed, versions, hardware, outcome."""
        return self.root / "run.json"

    @property
    def metrics(self) -> Path:
        """One line an iteration."""
        return self.root / "metrics.jsonl"

    @property
    def ladder(self) -> Path:
        """The rungs."""
        return self.root / "ladder.json"

    @property
    def state(self) -> Path:
        """What resuming needs."""
        return self.root / "state"

    @property
    def strays(self) -> Path:
        """What an interrupted run left beyond its last state."""
        return self.root / "strays"

    def open(self, *, resume: bool, overwrite: bool = False) -> None:
        """Claim the directory. Raises InputError when it is not empty (unless told to go on with the run in it, or to
        replace that), or when another run holds it.

        A process that was killed before it had written run.json leaves a directory that counts as empty.
        """
        self._require_usable(resume, overwrite)  # before anything is written there, and once nobody else can
        self._made = not self.root.exists()
        self._lock = lock_file(self.root / ".lock")
        if self._lock is None:
            raise self._in_use()
        try:
            replacing.settle(self.root)
            self._require_usable(resume, overwrite)
        except InputError:
            self.close()
            raise

    def _in_use(self) -> InputError:
        by = holder(self.root / ".lock")
        own = by.startswith(f"process {os.getpid()} on {socket.gethostname()},")
        return InputError(
            "--output_dir",
            got=f"{self.root}, in use by another {'trainer of this process' if own else 'run'} ({by})",
            expected="a directory of this run alone",
            fix=f"{'call its `close()`' if own else 'wait for that run'}, or choose another directory",
        )

    def _require_usable(self, resume: bool, overwrite: bool) -> None:
        if self.root.exists() and not self.root.is_dir():
            raise InputError(
                "--output_dir", got=f"{self.root}, a file", expected="a directory", fix="choose another one"
            )
        there = sorted(self.root.iterdir()) if self.root.is_dir() else []
        entries = [p for p in there if p.name != ".lock" and leftover_of(p) != self.run_json.name]
        if entries and not (resume or overwrite):
            raise InputError(
                "--output_dir",
                got=f"{self.root}, not empty",
                expected="a new or empty directory",
                fix="give --resume to continue the run in it, --overwrite to replace that, or choose another directory",
            )
        if entries and not (self.run_json.exists() or replacing.holds_run(self.root)):
            raise InputError(
                "--output_dir",
                got=f"{self.root}, files that are no run (no run.json)",
                expected="the directory of a run",
                fix="restore its run.json from a copy, or choose another directory",
            )
        if entries and overwrite and self.run_json.exists():
            read_object(self.run_json, "resolved")  # a run of ours, or nothing is replaced

    def close(self) -> None:
        """Give the directory free. A run that failed before its first iteration was done leaves nothing behind, so that
        the same call can be made again; a directory that was made and holds nothing goes too."""
        if self._lock is not None:
            if self._begun and self.record.get("status") == "running" and not self.metrics.exists():
                replacing.remove(self.root)
                replacing.bring_back(self.root)
            if self._made and [path.name for path in self.root.iterdir()] == [".lock"]:
                (self.root / ".lock").unlink()
                self.root.rmdir()
            os.close(self._lock)
            self._lock = None
        self._begun = False

    def check(self, resolved: dict[str, Any], sources: Mapping[str, Any], *, accept: bool) -> list[str]:
        """Names of the inputs that changed since the run in this directory began; with `accept` they may.

        `sources` are today's `inputs` and `reward_origins` (provenance.py). Raises InputError when the run has other
        options (what may differ is FREE_ON_RESUME) or other inputs.
        """
        if resolved["overwrite"] or not self.run_json.exists():
            return []
        record = read_object(self.run_json, "resolved")
        if "inputs" not in record:
            self._require_same(record.get("resolved", {}), resolved, FREE_ON_RESUME)
            word = "has no digests of its inputs: whether they are the same could not be checked"
            print(f"rlhf: {self.run_json} {word}", file=sys.stderr)
            return []
        # What is in a file is compared by its digest, wherever the file is now.
        self._require_same(record["resolved"], resolved, FREE_ON_RESUME | PATHS)
        changed = changed_since(record, sources["inputs"])
        if changed and not accept:
            raise InputError(
                "--resume",
                got=f"changed since the run began: {told(changed, sources['reward_origins'])}",
                expected="the inputs the run began with",
                fix="restore them, or go on with --accept_changes, which the run will say",
            )
        return changed

    def begin(
        self,
        resolved: dict[str, Any],
        given: dict[str, Any],
        facts: dict[str, Any],
        *,
        iteration: int = 0,
        changed: Sequence[str] = (),
    ) -> None:
        """Write run.json; of a run that is resumed what it found out stays, and one to be replaced is set aside.

        `changed` names the inputs (their digests are in `facts`) that are others from `iteration` on.
        """
        if resolved["overwrite"] and self.run_json.exists():
            replacing.set_aside(self.root)
        self._begun = not self.run_json.exists()
        if not self._begun:
            self.record = read_object(self.run_json)
            facts = {**facts, "normalization": self.record.get("normalization")}
            if "inputs" not in self.record:  # today's say nothing of what it began with
                facts = {key: value for key, value in facts.items() if key not in ("inputs", "reward_origins")}
        else:
            self.record = {"created_at": now()}
        self._note_changes(iteration, changed, facts.get("inputs", {}))
        host = host_facts()
        self.record |= {
            "command": sys.argv,
            "config": given,
            "resolved": resolved,
            "paths": recorded_paths({**resolved, **(facts.get("made_from") or {})}, self.root),
            "seed": resolved["seed"],
            **host,
            "sessions": [*self._sessions_before(iteration), self._session(iteration, resolved, facts, host)],
            "status": "running",
            "stop_reason": None,
            "files": None,
            **facts,
        }
        self.write()

    def _sessions_before(self, iteration: int) -> list[dict[str, Any]]:
        """The sessions whose iterations stand; one without options where an older version kept none."""
        known = self.record.get("sessions", [{"iteration": 0}] if "resolved" in self.record else [])
        return [session for session in known if session["iteration"] < iteration]

    @staticmethod
    def _session(
        iteration: int, resolved: Mapping[str, Any], facts: Mapping[str, Any], host: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What one process (or launch of several) made the iterations from `iteration` on with."""
        options = {key: resolved[key] for key in sorted(SESSION_OPTIONS & resolved.keys())}  # `align` has no guard
        processes = {key: facts.get(key) for key in ("world_size", "distributed_type")}
        return {"iteration": iteration, "options": options, **processes, **host}

    def _note_changes(self, iteration: int, changed: Sequence[str], inputs: Inputs) -> None:
        """Keep in run.json from which iteration on which inputs were others."""
        before = self.record.get("inputs", {})
        known = self.record.get("accepted_changes", [])
        # Resumed from a state before an earlier break, what follows is made with the changed inputs.
        breaks = [{**row, "iteration": min(row["iteration"], iteration)} for row in known]
        if changed:
            of = [{"name": name, "before": before.get(name), "now": inputs.get(name)} for name in changed]
            breaks.append({"iteration": iteration, "at": now(), "inputs": of})
        if breaks:
            self.record["accepted_changes"] = breaks

    def accepted_at(self, iteration: int) -> list[str] | None:
        """Names of the inputs that were others from this iteration on; None as a rule."""
        breaks = [row for row in self.record.get("accepted_changes", []) if row["iteration"] == iteration]
        return [one["name"] for row in breaks for one in row["inputs"]] or None

    def _require_same(self, then: dict[str, Any], today: dict[str, Any], free: set[str]) -> None:
        changed = [k for k in today if k in then and k not in free and then[k] != today[k]]
        if changed:
            key = changed[0]
            raise InputError(
                f"--{key}",
                got=f"{today[key]} with --resume",
                expected=f"{then[key]}, as the run began",
                fix="give the run's own options, or begin another run",
            )

    def write(self, **facts: Any) -> None:
        """Update run.json."""
        self.record |= facts
        write_sealed(self.run_json, self.record)

    def finish(self, status: str, stop_reason: str | None) -> None:
        """Write how the run ended, and the digest of metrics.jsonl."""
        self.write(status=status, stop_reason=stop_reason, files=self.digests())

    def digests(self) -> dict[str, FileDigest] | None:
        """Size and digest of metrics.jsonl as it is now; None before its first line."""
        return digest_files(self.root, self.metrics.name) if self.metrics.exists() else None

    def append_metrics(self, line: dict[str, Any]) -> None:
        """Append one iteration; a run that this one replaces is gone from then on."""
        append_jsonl(self.metrics, line)
        replacing.forget(self.root)
