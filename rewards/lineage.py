"""Where a reward model came from: base model, labels with their raters, the samples that were labelled, and those that
fixed offset and scale; kept as `lineage` in reward_model.json.

What cannot be known is None, and said as unknown: a base model that is no directory here, labels of a data set, texts
whose sample is in none of the files that were looked at, a reward model made before lineage was recorded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhf.foundation.conversation import Text, as_completion, as_prompt
from rlhf.foundation.digests import digest_files, value_digest
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_jsonl
from rlhf.foundation.model_digests import model_inputs
from rlhf.foundation.model_pair import LanguageModel, Model
from rlhf.foundation.records import Sample

Lineage = dict[str, Any]
UNKNOWN = "unknown"
BASE, LABELS, NORMALIZATION = "base model", "labels", "samples of offset and scale"
# What loading a model reads; anything else in its directory is no part of it.
MODEL_FILES = {".safetensors", ".json", ".jinja", ".txt", ".model"}
_NOT_READ = {"pretrain.json", "reward_model.json"}
Judged = tuple[Text, Text]  # prompt and completion


def base_model(given: Model) -> Lineage:
    """Name and digest of all files that loading the model reads, or of a model in memory; None for a name of the hub.

    Raises InputError when one of them cannot be read.
    """
    if isinstance(given, LanguageModel):
        return {"model": given.name, "sha256": value_digest(model_inputs(given.model, given.tokenizer))}
    name_or_path, root = given, Path(given)
    if not root.is_dir():
        return {"model": name_or_path, "sha256": None}
    read = (path for path in root.iterdir() if path.suffix in MODEL_FILES and path.name not in _NOT_READ)
    return {"model": name_or_path, "sha256": value_digest(digest_files(root, *sorted(path.name for path in read)))}


def labelled(
    place: str,
    sha256: str,
    raters: Sequence[str],
    judged: Sequence[Judged],
    looked_in: Sequence[str | Path | Sequence[Sample]] = (),
    *,
    beside: bool = True,
) -> Lineage:
    """What was fitted to: file, digest, rows by rater ("" counts as unknown), and whose samples the texts are.

    `judged` are the labelled texts; their sources are found by prompt and completion in the samples `looked_in` (files,
    or in memory) and, where none is given, in samples.jsonl and tasks.jsonl `beside` the labels. Raises InputError for
    a file in `looked_in` that cannot be read.
    """
    known = _sources_beside(Path(place)) if beside and not looked_in else {}
    for given in looked_in:
        known |= _sources([Path(given)]) if isinstance(given, (str, Path)) else _sources_held(given)
    found = {text: known.get(text) for text in dict.fromkeys(map(_key, judged))}
    return {
        "file": place,
        "sha256": sha256,
        "rows": len(raters),
        "raters": dict(Counter(name or UNKNOWN for name in raters)),
        "sources": dict(Counter(source or UNKNOWN for source in found.values())),
    }


def samples_digest(samples: Sequence[Sample]) -> str:
    """SHA-256 over the texts in their order; sources and uids, which name places, do not enter."""
    return value_digest([[sample.prompt, sample.completion] for sample in samples])


def normalization_samples(path: str, samples: Sequence[Sample]) -> Lineage:
    """The samples that fixed offset and scale."""
    return {
        "file": path,
        "sha256": samples_digest(samples),
        "n": len(samples),
        "sources": dict(Counter(sample.source for sample in samples)),
    }


def lineage_digests(report: Mapping[str, Any]) -> dict[str, str | None]:
    """The digests of a reward model's lineage by the names that a message uses; None for what is unknown."""
    lineage = report.get("lineage") or {}
    data, samples = lineage.get("labels") or {}, lineage.get("samples") or {}
    return {
        BASE: (lineage.get("base_model") or {}).get("sha256"),
        LABELS: data.get("sha256"),
        NORMALIZATION: samples.get("sha256"),
    }


def lineage_lines(report: Mapping[str, Any]) -> list[str]:
    """A reward model's lineage in words, a line each part."""
    lineage = report.get("lineage")
    if not lineage:
        return ["unknown: the reward model was made before its origin was recorded"]
    base, data, samples = lineage["base_model"], lineage["labels"], lineage["samples"]
    lines = [f"{BASE}: {base['model']}" + ("" if base["sha256"] else ", digest unknown")]
    lines.append(f"{LABELS}: {data['file']}, {data['rows']:,} rows by {_counts(data['raters'])}")
    lines.append(f"labelled samples: of {_counts(data['sources'])}")
    drawn = f"{samples['file']}, {samples['n']:,} of {_counts(samples['sources'])}" if samples else "none"
    return [*lines, f"{NORMALIZATION}: {drawn}"]


def _counts(named: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count:,})" for name, count in named.items())


def _key(text: Judged) -> tuple[str, str]:
    prompt, completion = text
    return as_prompt(prompt, "prompt"), as_completion(completion, "completion")


def _sources(files: Sequence[Path]) -> dict[tuple[str, str], str]:
    """Source by prompt and completion, of samples.jsonl and of the tasks of a labelling folder."""
    found = {}
    for row in (row for file in files for row in read_jsonl(file)):
        for name in ("completion", "text", "second"):
            if row.get(name) is not None and row.get("source"):
                found[_key((row.get("prompt", ""), row[name]))] = str(row["source"])
    return found


def _sources_held(samples: Sequence[Sample]) -> dict[tuple[str, str], str]:
    return {_key((sample.prompt, sample.completion)): sample.source for sample in samples if sample.source}


def _sources_beside(labels: Path) -> dict[tuple[str, str], str]:
    """The same from the files beside the labels; nothing where one of them cannot be read, which nobody asked for."""
    beside = [labels.parent / name for name in ("samples.jsonl", "tasks.jsonl")]
    try:
        return _sources([path for path in beside if path.is_file()])
    except InputError:
        return {}
