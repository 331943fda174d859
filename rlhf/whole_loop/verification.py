"""`rlhf inspect --verify`: every file of recorded work re-read against its digest, and every input looked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rewards.reward_file import REWARD_FILE
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_json
from rlhf.foundation.model_digests import MODEL_INPUTS, Inputs
from rlhf.foundation.recorded_paths import locate
from rlhf.runs import provenance
from rlhf.runs.integrity import (
    NO_DIGEST,
    Part,
    evaluation_part,
    files_part,
    metrics_part,
    record_name,
    record_part,
    rung_part,
    state_part,
)
from rlhf.runs.ladder import read_rungs
from rlhf.whole_loop.origins import Origin, origins_of_model, origins_of_reward

PROMPTS, CRITIC = ("prompts", "evaluation prompts"), ("critic's model",)


@dataclass
class Verification:
    """What was found, part by part, in order; bytes digested and the seconds of files and of inputs."""

    parts: list[Part] = field(default_factory=list)
    seconds: float = 0.0
    input_seconds: float = 0.0

    @property
    def wrong(self) -> list[str]:
        """Everything that is changed or gone, in words."""
        return [f"{part.name}: {one}" for part in self.parts for one in part.wrong]

    def lines(self) -> list[str]:
        """A line each part, and how much was read in which time."""
        read = sum(part.read for part in self.parts)
        rate = read / max(self.seconds, 1e-9) / 1e9
        told = f"{read / 1e6:,.1f} MB of files read in {self.seconds:.2f} s ({rate:.1f} GB/s)"
        return [*map(str, self.parts), f"{told}, inputs in {self.input_seconds:.1f} s"]


def verify(root: Path) -> Verification:
    """Verify a directory of `rlhf ppo`, `demo`, `loop`, `reward`, `pretrain` or `rate`, with all that lies in it.

    Raises InputError when it is none of them.
    """
    found = Verification()
    _verify_any(found, root, "")
    return found


def require_whole(found: Verification, root: Path) -> None:
    """Raise InputError naming the first damage, and how many there are."""
    if found.wrong:
        count = len(found.wrong)
        raise InputError(
            str(root),
            got=found.wrong[0] + (f"; {count} things changed or gone in all" if count > 1 else ""),
            expected="everything as it was written",
            fix="restore it from a copy, or make it anew",
        )


def _verify_any(found: Verification, root: Path, prefix: str) -> None:
    kinds: dict[str, Callable[[Verification, Path, str], None]] = {
        "demo.json": _stages,
        "loop.json": _stages,
        "run.json": _run,
        REWARD_FILE: _reward,
        "pretrain.json": _model,
        "study.json": _study,
    }
    name = record_name(root, list(kinds))
    kinds[name](found, root, prefix)


def _stages(found: Verification, root: Path, prefix: str) -> None:
    """A demo or a loop: its own files, then every part of it in a directory of its own."""
    name = "demo.json" if (root / "demo.json").is_file() else "loop.json"
    files = read_json(root / name).get("files") or {}
    alone = [(file, files_part(file, root, {file: known}, "whole")) for file, known in files.items()]
    _timed(found, lambda: [record_part(root / name), *(part for _, part in alone)], prefix)
    if name == "loop.json" and (root / "rounds.json").is_file():
        _timed(found, lambda: [record_part(root / "rounds.json")], prefix)
    for below in _parts_below(root):
        _verify_any(found, below, f"{prefix}{below.relative_to(root).as_posix()}/")


def _parts_below(root: Path) -> list[Path]:
    """Directories in `root` with a record of their own, not those within them."""
    records = ("run.json", REWARD_FILE, "pretrain.json")
    holders = {path.parent for name in records for path in root.rglob(name)}
    return sorted(path for path in holders if not any(parent in holders for parent in path.parents))


def _study(found: Verification, root: Path, prefix: str) -> None:
    """A blind rating: what is compared, and the verdict with the key and the ratings that it was given on."""

    def files() -> list[Part]:
        parts = [record_part(root / "study.json")]
        if not (root / "verdict.json").is_file():
            return [*parts, Part("key and ratings", "no digest before the verdict")]
        known = read_json(root / "verdict.json").get("files")
        says = "given on a key and ratings that are unchanged"
        return [*parts, record_part(root / "verdict.json"), files_part("verdict", root, known, says)]

    _timed(found, files, prefix)


def _model(found: Verification, root: Path, prefix: str) -> None:
    record = read_json(root / "pretrain.json")
    _timed(found, lambda: [record_part(root / "pretrain.json"), files_part("model", root, record.get("files"))], prefix)
    _origins(found, origins_of_model(record, root), prefix)


def _reward(found: Verification, root: Path, prefix: str) -> None:
    report = read_json(root / REWARD_FILE)
    _timed(found, lambda: [record_part(root / REWARD_FILE), files_part("model", root, report.get("files"))], prefix)
    _reward_origins(found, report, root, prefix, "")


def _reward_origins(found: Verification, report: Mapping[str, Any], root: Path, prefix: str, of: str) -> None:
    started = time.perf_counter()
    origins = origins_of_reward(report, root)
    found.input_seconds += time.perf_counter() - started
    named = [Origin(f"{origin.name}{of}", origin.place, origin.state) for origin in origins]
    _origins(found, named, prefix)
    if not origins:
        found.parts.append(Part(f"{prefix}origin{of}", NO_DIGEST))


def _origins(found: Verification, origins: Sequence[Origin], prefix: str) -> None:
    for origin in origins:
        said = str(origin).removeprefix(f"{origin.name}: ")
        wrong = [said] if origin.state in ("changed", "not found") else []
        found.parts.append(Part(f"{prefix}{origin.name}", said, wrong))


def _run(found: Verification, root: Path, prefix: str) -> None:
    info = read_json(root / "run.json")

    def files() -> list[Part]:
        names = ["ladder.json", "blind_verdicts.json", "human_ladder.json"]
        parts = [record_part(root / "run.json"), *(record_part(root / n) for n in names if (root / n).exists())]
        parts += [Part("ladder.json", "", ["is gone"])] if not (root / "ladder.json").exists() else []
        parts += [rung_part(root, rung) for rung in _rungs(root)]
        parts += [state_part(path) for path in sorted(root.glob("state/[0-9]*")) if path.is_dir()]
        parts += [metrics_part(root, info)]
        return [*parts, *([evaluation_part(root)] if (root / "evaluation.json").exists() else [])]

    _timed(found, files, prefix)
    started = time.perf_counter()
    inputs = _inputs(info, root)
    found.input_seconds += time.perf_counter() - started
    found.parts += [Part(f"{prefix}{part.name}", part.says, part.wrong) for part in inputs]
    for number, given in enumerate(info.get("resolved", {}).get("reward_model_path") or [], start=1):
        place = Path(locate(info, root, given))
        if (place / REWARD_FILE).is_file() and not prefix:  # within a demo the reward model is a part of its own
            _reward_origins(found, read_json(place / REWARD_FILE), place, prefix, f" of reward {number}")


def _rungs(root: Path) -> list[Any]:
    try:
        return read_rungs(root / "ladder.json")
    except InputError:
        return []  # a missing or torn ladder is told by its own part


def _timed(found: Verification, parts: Callable[[], list[Part]], prefix: str) -> None:
    started = time.perf_counter()
    read = parts()
    found.seconds += time.perf_counter() - started
    found.parts += [Part(f"{prefix}{part.name}", part.says, part.wrong, part.read) for part in read]


def _inputs(info: Mapping[str, Any], root: Path) -> list[Part]:
    """Original, prompts, critic and rewards of a run, each digested anew where it is found."""
    from rlhf.whole_loop import replay

    then = info.get("inputs")
    if then is None:
        return [Part("inputs", NO_DIGEST)]
    try:
        replay.require_named(info, root)
    except InputError as error:
        return [Part("inputs", f"not checked: {error.got}")]
    kinds: list[tuple[str, set[str], Callable[[], Inputs]]] = [
        ("original model", set(MODEL_INPUTS), lambda: replay.original_of(info, root)),
        ("prompts", set(PROMPTS), lambda: replay.prompts_of(info, root)),
        ("critic's model", set(CRITIC), lambda: replay.critic_of(info, root)),
    ]
    parts = [_input(kind, {n: d for n, d in then.items() if n in names}, today) for kind, names, today in kinds]
    rewards = {name: digest for name, digest in then.items() if name.startswith("reward ")}
    return [part for part in parts if part] + _rewards(info, root, rewards)


def _input(kind: str, then: Mapping[str, str | None], digest: Callable[[], Inputs]) -> Part | None:
    if not then:
        return None
    try:
        today = digest()
    except InputError as error:
        return Part(kind, "", [f"not found: {error.what}, {error.got}"])
    changed = provenance.changed_inputs(then, today)
    unknown = [name for name, known in then.items() if known is None and not provenance.is_lineage(name)]
    says = "no source to compare" if unknown else "unchanged"
    return Part(kind, says, [f"changed ({'; '.join(changed)})"] if changed else [])


def _rewards(info: Mapping[str, Any], root: Path, then: Mapping[str, str | None]) -> list[Part]:
    """A line each reward; where one cannot be loaded, one for all of them."""
    from rlhf.whole_loop import replay

    try:
        found = provenance.reward_inputs(replay.rewards_of(info, root))
    except InputError as error:
        return [Part("rewards", "", [f"not found: {error.what}, {error.got}"])] if then else []
    knows = "reward_origins" in info
    today = {name: digest for name, digest in found.items() if knows or not provenance.is_lineage(name)}
    kinds = dict.fromkeys(name.partition(": ")[0] for name in then)
    parts = [_input(kind, _own(then, kind), partial(_own, today, kind)) for kind in kinds]
    return [part for part in parts if part]


def _own(inputs: Mapping[str, str | None], reward: str) -> Inputs:
    """The inputs of one reward: itself, its parts, and where it came from."""
    return {name: digest for name, digest in inputs.items() if name.partition(": ")[0] == reward}
