"""`rlhf label import`: CSV, JSON lines or a Label Studio export become labels.jsonl or comparisons.jsonl."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from labeling import importing
from labeling.importing import REFERENCE, SIDES, Imported, import_comparisons, parse_map
from labeling.people import Joined, join_people
from labeling.reviewing import reference_file, reviewers_in
from labeling.tables import Columns
from labeling.tally import Tally
from labeling.union import union
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import Advance
from rlhf.foundation.lazy import Chained, Lazy
from rlhf.foundation.locks import one_writer
from rlhf.foundation.options import REQUIRED, Options, Several, option
from rlhf.foundation.outputs import check_output
from rlhf.foundation.progress import counted, reading
from rlhf.foundation.records import Comparison, Label, lazy_records, rater_name, write_records
from rlhf.foundation.steps import step
from rlhf.foundation.terminal import shown

Kept = TypeVar("Kept", Label, Comparison)


@dataclass
class ImportConfig(Options):
    """Options of `rlhf label import`."""

    input: str = option(help="file to read: .csv, .tsv, .jsonl, or .json for Label Studio's JSON or JSON-MIN export")
    output: str | None = option(
        None, help="file to write: labels.jsonl, or comparisons.jsonl with --kind comparison", written=REQUIRED
    )
    kind: Literal["judgement", "comparison"] = option("judgement", help="what the file holds")
    text: str = option("text", help="column (or data field) of the text that was judged")
    label: str = option(
        "", help="column (or control) of the label; default: sentiment, comparison, or the only control"
    )
    prompt: str = option("", help="column (or data field) of the prompt, if any; comparisons: default prompt")
    first: str = option(
        "first", help="column of what a rater had said before a reward model's reasons were shown, where there is one"
    )
    annotator_column: str = option("", help="column that names the annotator, if any; Label Studio's own is known")
    annotator: str = option(
        "", help="who answered where a row names nobody; default: imported, or several such people if others are named"
    )
    reviewer: Several[str] = option(
        [], help="whose answers the others are measured by: they go to NAME.reference.jsonl, and are never trained on"
    )
    map: Several[str] = option(
        [],
        help="what a value means: VALUE=positive, neutral, negative or skip (comparisons: left, right, tie); "
        'happy=positive,"so, so"=neutral',
    )
    append: bool = option(False, help="keep the rows of an existing output file and add to them")
    overwrite: bool = option(False, help="replace the output file if it exists")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.reviewer = reviewers_in(self.reviewer)
        if self.append and self.overwrite:
            raise InputError(
                "--append --overwrite",
                got="both",
                expected="one of them",
                fix="--append keeps what is there, --overwrite replaces it",
            )


@dataclass(frozen=True)
class ImportedFile:
    """What came in, with counts of what was left out; `summary` says in a line how many rows of what, by whom."""

    imported: Imported
    summary: str

    @property
    def labels(self) -> Sequence[Label]:
        """The judgements."""
        return self.imported.labels

    @property
    def comparisons(self) -> Sequence[Comparison]:
        """The comparisons."""
        return self.imported.comparisons


@step(ImportConfig)
def import_labels(config: ImportConfig) -> ImportedFile:
    """A table or an export of Label Studio becomes labels or comparisons. Raises InputError.

    With `append` what is there stays: a row is replaced by the same annotator's later answer alone, and counted.
    Answers of a reviewer, or marked as ground truth, go to NAME.reference.jsonl beside the output. Without `output`
    nothing is written.
    """
    source, tally = Path(config.input), Tally()
    replace = config.overwrite or config.append
    if config.output is not None:
        check_output("--output", Path(config.output), overwrite=replace, inputs=[config.input])
    with reading(source, quiet=config.quiet) as advance:
        imported = _apart(_import(source, config, advance), config.reviewer)
    if config.output is None:
        for _ in tally.watch(cast(Sequence[Label], imported.labels or imported.comparisons)):
            pass
    else:
        _write(Path(config.output), config, imported, tally)
    return ImportedFile(imported, str(tally))


def _apart(imported: Imported, reviewers: Sequence[str]) -> Imported:
    """What came in, with the answers of reviewers among the references. Raises InputError for one who gave none."""
    if not reviewers:
        return imported
    labels, references = _parted(imported.labels, reviewers)
    comparisons, apart = _parted(imported.comparisons, reviewers)
    of_reviewers = _names(references, apart, imported.references, imported.comparison_references)
    if absent := set(reviewers) - of_reviewers:
        named = sorted(_names(labels, comparisons))
        raise InputError(
            "--reviewer",
            got=", ".join(sorted(absent)),
            expected=f"someone who answered: {shown(', '.join(named), 200)}",
            fix="name them as the file does",
        )
    imported.counts[REFERENCE] += len(references) + len(apart)
    return dataclasses.replace(
        imported,
        labels=labels,
        comparisons=comparisons,
        references=Chained(references, imported.references),
        comparison_references=Chained(apart, imported.comparison_references),
    )


def _names(*parts: Sequence[Label] | Sequence[Comparison]) -> set[str]:
    return {rater_name(one.annotator) for part in parts for one in part}


def _parted(records: Sequence[Kept], reviewers: Sequence[str]) -> tuple[Sequence[Kept], Sequence[Kept]]:
    """The raters' records and the reviewers'."""
    is_theirs = [rater_name(one.annotator) in reviewers for one in records]
    own = Lazy(records.__getitem__, [place for place, theirs in enumerate(is_theirs) if not theirs])
    return own, Lazy(records.__getitem__, [place for place, theirs in enumerate(is_theirs) if theirs])


def _write(output: Path, config: ImportConfig, imported: Imported, tally: Tally) -> None:
    replace = config.overwrite or config.append
    with one_writer(output):
        check_output("--output", output, overwrite=replace)
        beside = reference_file(output)
        keep = config.append and output.exists()
        add = functools.partial(_add, imported=imported, quiet=config.quiet)
        if config.kind == "comparison":
            add(output, imported.comparisons, Comparison, keep=keep, tally=tally)
            add(beside, imported.comparison_references, Comparison, keep=beside.exists())
        else:
            add(output, imported.labels, Label, keep=keep, tally=tally)
            add(beside, imported.references, Label, keep=beside.exists())


def _import(source: Path, config: ImportConfig, advance: Advance) -> Imported:
    common: dict[str, Any] = {"annotator": config.annotator, "advance": advance}
    if config.kind == "comparison":
        columns = Columns(config.text, config.label, config.prompt or "prompt", config.annotator_column, config.first)
        return import_comparisons(source, columns, parse_map(config.map, meanings=list(SIDES)), **common)
    columns = Columns(config.text, config.label, config.prompt, config.annotator_column, config.first)
    return importing.import_labels(source, columns, parse_map(config.map), **common)


def _add(
    path: Path,
    new: Sequence[Kept],
    kind: type[Kept],
    *,
    imported: Imported,
    keep: bool,
    quiet: bool,
    tally: Tally | None = None,
) -> None:
    if not new:
        return
    tally = tally or Tally()
    if not keep:
        rows = tally.watch(counted(new, len(new), "write", quiet=quiet))
        return write_records(path, cast(Any, rows))
    with reading(path, quiet=quiet) as advance:
        there = lazy_records(kind, path, advance)
    people: Joined[Kept] = join_people(there, new, imported.emails)
    for _ in tally.watch(new):
        pass
    joined, counts = union(Chained(people.records, new))
    imported.counts.update(counts)
    imported.notes.extend(note for note in people.notes if note not in imported.notes)
    write_records(path, cast(Any, counted(joined, len(joined), "write", quiet=quiet)))
