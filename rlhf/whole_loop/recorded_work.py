"""The work that a directory records, ready to be done again elsewhere: what makes it, what of it is compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast

from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_json
from rlhf.foundation.host import host_differences, host_facts, same_threads
from rlhf.foundation.options import Options
from rlhf.foundation.recorded_paths import STAGE_PATHS, located
from rlhf.runs.integrity import record_name
from rlhf.whole_loop.origins import Origin, origins_of_model, origins_of_reward

Make = Callable[[Path, bool], None]
RUN_PARTS = ["run.json", "metrics.jsonl", "ladder.json", "checkpoints", "samples", "state"]
PAGES = {"report.html", "reward_page.html"}


@dataclass
class Work:
    """Recorded work: `make(directory, quiet)` does it again; `parts` are the files and directories it made, `besides`
    what else stands there; `notes` tell what is no longer as it was, `changed` which inputs."""

    make: Make
    parts: list[str]
    notes: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    besides: list[str] = field(default_factory=list)


def work_of(root: Path) -> Work:
    """The work that `root` records. Raises InputError when it is none, not finished, or cannot be done again."""
    kinds: dict[str, Callable[[Path, dict[str, Any]], Work]] = {
        "demo.json": _demo,
        "loop.json": _loop,
        "run.json": _ppo,
        "reward_model.json": _reward,
        "pretrain.json": _pretrain,
    }
    name = record_name(root, list(kinds))
    record = read_json(root / name)
    work = kinds[name](root, record)
    work.notes = [*host_differences(record, host_facts()), *(f"changed: {name}" for name in work.changed), *work.notes]
    tops = {part.split("/")[0] for part in work.parts}
    there = sorted(path.name for path in root.iterdir() if not path.name.startswith("."))
    work.besides += [name for name in there if "." not in work.parts and name not in tops | PAGES]
    return work


def _ppo(root: Path, info: Mapping[str, Any]) -> Work:
    from rlhf.whole_loop import replay

    if "method" in info:
        raise InputError(
            str(root), got=f"a run of `rlhf align` ({info['method']})", expected="a run of `rlhf ppo`",
            fix="give the same command again with another --output_dir",
        )  # fmt: skip
    sessions = replay.sessions_of(info, root)
    recipe = replay.recipe_of(info, root)
    notes = [] if "inputs" in info else ["the inputs of then have no digests: whether they are the same is unknown"]
    notes += [] if "sessions" in info else ["whether the run was resumed was not recorded: it is made in one go"]
    changed = replay.changed_inputs_of(info, root, recipe.rewards) if "inputs" in info else []

    def make(directory: Path, quiet: bool) -> None:
        replay.replay(recipe, sessions, directory, quiet=quiet)

    return Work(make, list(RUN_PARTS), notes, changed)


def _demo(root: Path, record: Mapping[str, Any]) -> Work:
    from rlhf.whole_loop.demo import DemoConfig, demo

    config = _options(DemoConfig, record, root)
    _require_finished(root, [root / "ppo" / "run.json", root / "ppo" / "evaluation.json"], "rlhf demo")
    files = [name for name in ("samples.jsonl", "unlabelled.jsonl", "labels.jsonl") if (root / name).exists()]
    parts = ["demo.json", "model", *files, *(["reward_model"] if config["reward"] == "sentiment" else [])]
    parts += [f"ppo/{part}" for part in RUN_PARTS]
    again = read_json(root / "ppo" / "evaluation.json").get("samples") != "samples"
    besides = ["ppo/evaluation.json, which `rlhf evaluate` made anew"] if again else []
    parts += [] if again else ["ppo/evaluation.json"]

    def make(directory: Path, quiet: bool) -> None:
        with same_threads(record):
            demo(**{**config, "output_dir": str(directory), "quiet": quiet})

    model = read_json(root / "model" / "pretrain.json")
    return Work(make, parts, [], _changed(origins_of_model(model, root / "model")), besides)


def _loop(root: Path, record: Mapping[str, Any]) -> Work:
    from rlhf.whole_loop.rounds import Loop, LoopConfig

    config = _options(LoopConfig, record, root)
    if config["annotator"] != "simulated":
        raise InputError(
            str(root),
            got="rounds that people labelled",
            expected="a simulated annotator",
            fix=f"do its parts again, such as {root}/round-1/ppo",
        )
    _require_finished(root, [root / "rounds.json"], "rlhf loop")

    def make(directory: Path, quiet: bool) -> None:
        with same_threads(record):
            Loop(LoopConfig(**{**config, "output_dir": str(directory), "quiet": quiet})).run()

    rounds = sorted(path.name for path in root.glob("round-*"))
    return Work(make, ["loop.json", "unlabelled.jsonl", "rounds.json", *rounds])


def _reward(root: Path, report: Mapping[str, Any]) -> Work:
    from rewards.steps.fit import fit
    from rewards.steps.reward_config import RewardConfig

    if "config" not in report:
        raise _not_recorded(root)
    config = _options(RewardConfig, report, root)

    def make(directory: Path, quiet: bool) -> None:
        with same_threads(report):
            fit(**{**config, "output_dir": str(directory), "quiet": quiet})

    return Work(make, ["."], [], _changed(origins_of_reward(report, root)))


def _pretrain(root: Path, record: Mapping[str, Any]) -> Work:
    from rlhf.language_model.pretrain import pretrain
    from rlhf.language_model.pretrain_config import PretrainConfig

    config = _options(PretrainConfig, record, root)

    def make(directory: Path, quiet: bool) -> None:
        with same_threads(record):
            pretrain(**{**config, "output_dir": str(directory), "quiet": quiet})

    return Work(make, ["."], [], _changed(origins_of_model(record, root)))


def _options(kind: type[Options], record: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Recorded options that there still are, files where they are today. Raises InputError for one that is gone."""
    names = {one.name for one in fields(cast(Any, kind))}
    given = {key: value for key, value in record["config"].items() if key in names}
    return located(record, root, given, STAGE_PATHS)


def _changed(origins: Sequence[Origin]) -> list[str]:
    return [f"{one.name} ({one.place})" for one in origins if one.state in ("changed", "not found")]


def _require_finished(root: Path, products: Sequence[Path], command: str) -> None:
    missing = [path.name for path in products if not path.exists()]
    if missing:
        raise InputError(
            str(root), got=f"no {missing[0]} yet", expected="finished work", fix=f"finish it with `{command}` first"
        )


def _not_recorded(root: Path) -> InputError:
    return InputError(
        str(root),
        got="a reward model of an older version, which did not record its options",
        expected="one that can be fitted again",
        fix="fit another one with `rlhf reward`",
    )
