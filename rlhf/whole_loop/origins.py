"""What a reward model or a language model was made from, looked for today and compared with what its record says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from rewards.lineage import BASE, LABELS, NORMALIZATION, base_model, samples_digest
from rlhf.foundation.digests import value_digest
from rlhf.foundation.errors import InputError
from rlhf.foundation.recorded_paths import STAGE_PATHS, located, require_located
from rlhf.foundation.records import read_samples

State = Literal["unchanged", "changed", "not found", "unknown"]


@dataclass(frozen=True, slots=True)
class Origin:
    """One thing that something was made from, where it is today, and whether it still is what it was."""

    name: str
    place: str
    state: State

    def __str__(self) -> str:
        said = {"unknown": "no digest was recorded", "not found": f"not found: {self.place}"}
        return f"{self.name}: {said.get(self.state, f'{self.state} ({self.place})')}"


def origins_of_reward(report: Mapping[str, Any], root: Path) -> list[Origin]:
    """Base model, labels, and samples of offset and scale of the reward model in `root`; [] where none are recorded."""
    lineage = report.get("lineage")
    if not lineage:
        return []
    base, data, samples = lineage["base_model"], lineage["labels"], lineage["samples"]
    found = [
        _compare(report, root, BASE, "model_name_or_path", base["model"], base["sha256"], _base_digest),
        _compare(report, root, LABELS, "labels", data["file"], data["sha256"], lambda _: _data_digest(report, root)),
    ]
    if samples:
        found.append(
            _compare(report, root, NORMALIZATION, "samples", samples["file"], samples["sha256"], _samples_digest)
        )
    return found


def origins_of_model(record: Mapping[str, Any], root: Path) -> list[Origin]:
    """The corpus of the language model in `root`, from its pretrain.json; [] where none is recorded."""
    known = record.get("inputs", {}).get("corpus")
    if known is None:
        return []
    place = record["config"]["corpus"]
    return [_compare(record, root, "corpus", "corpus", place, known, lambda where: _corpus_digest(record, where))]


def _compare(
    record: Mapping[str, Any],
    root: Path,
    name: str,
    option: str,
    given: str,
    known: str | None,
    digest: Callable[[str], str | None],
) -> Origin:
    """Whether what `given` named has the `known` digest today."""
    try:
        place = require_located(record, root, option, given)
    except InputError as error:
        return Origin(name, str(error.got), "not found")
    if known is None:
        return Origin(name, place, "unknown")
    try:
        today = digest(place)
    except InputError as error:
        return Origin(name, f"{place}, unreadable: {error.got}", "changed")
    return Origin(name, place, "unchanged" if today == known else "changed")


def _base_digest(place: str) -> str | None:
    digest: str | None = base_model(place)["sha256"]
    return digest


def _samples_digest(place: str) -> str:
    return samples_digest(read_samples(Path(place)))


def _data_digest(report: Mapping[str, Any], root: Path) -> str:
    from rewards.steps.reward_data import DataOptions, load_reward_data

    names = {field.name for field in fields(DataOptions)}
    options = located(report, root, report["config"], STAGE_PATHS)
    return load_reward_data(DataOptions(**{key: value for key, value in options.items() if key in names})).sha256


def _corpus_digest(record: Mapping[str, Any], place: str) -> str:
    from rlhf.language_model.corpus import read_corpus

    options = record["config"]
    documents = read_corpus(
        place,
        document_separator=options["document_separator"].replace("\\n", "\n"),
        text_column=options["text_column"],
        dataset_split=options["dataset_split"],
    )
    return value_digest(list(documents))
