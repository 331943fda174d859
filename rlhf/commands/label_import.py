"""`rlhf label import`: CSV, JSON lines or a Label Studio export become labels.jsonl or comparisons.jsonl."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from labeling.importing import SIDES, Imported, import_comparisons, import_labels, parse_map
from labeling.people import Joined, join_people
from labeling.tables import Columns
from labeling.union import union
from rlhf.commands.label_output import listed_counts, print_notes, tally
from rlhf.commands.outputs import check_output
from rlhf.foundation.errors import InputError
from rlhf.foundation.locks import one_writer
from rlhf.foundation.records import Comparison, Label, read_comparisons, read_labels, write_records
from rlhf.foundation.terminal import shown
from rlhf.option_fields import Options
from rlhf.options import option, parse

Kept = TypeVar("Kept", Label, Comparison)


@dataclass
class ImportConfig(Options):
    """Options of `rlhf label import`."""

    input: str = option(help="file to read: .csv, .tsv, .jsonl, or .json for Label Studio's JSON or JSON-MIN export")
    output: str = option(help="file to write: labels.jsonl, or comparisons.jsonl with --kind comparison")
    kind: Literal["judgement", "comparison"] = option("judgement", help="what the file holds")
    text: str = option("text", help="column (or data field) of the text that was judged")
    label: str = option(
        "", help="column (or control) of the label; default: sentiment, comparison, or the only control"
    )
    prompt: str = option("", help="column (or data field) of the prompt, if any; comparisons: default prompt")
    annotator_column: str = option("", help="column that names the annotator, if any; Label Studio's own is known")
    annotator: str = option(
        "", help="who answered where a row names nobody; default: imported, or several such people if others are named"
    )
    map: list[str] = option(
        [],
        help="what a value means: VALUE=positive, neutral, negative or skip (comparisons: left, right, tie); "
        'happy=positive,"so, so"=neutral',
    )
    append: bool = option(False, help="keep the rows of an existing output file and add to them")
    overwrite: bool = option(False, help="replace the output file if it exists")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.append and self.overwrite:
            raise InputError(
                "--append --overwrite",
                got="both",
                expected="one of them",
                fix="--append keeps what is there, --overwrite replaces it",
            )


def run(config: ImportConfig) -> Imported:
    """Import the file and write the records; returns them with counts of what was left out. Raises InputError.

    With `append` what is there stays: a row is replaced by the same annotator's later answer alone, and counted.
    Answers marked as ground truth go to NAME.reference.jsonl beside the output.
    """
    source, output = Path(config.input), Path(config.output)
    replace = config.overwrite or config.append
    check_output("--output", output, overwrite=replace, inputs=[config.input])
    if config.kind == "comparison":
        columns = Columns(config.text, config.label, config.prompt or "prompt", config.annotator_column)
        mapping = parse_map(config.map, meanings=list(SIDES))
        imported = import_comparisons(source, columns, mapping, annotator=config.annotator)
    else:
        columns = Columns(config.text, config.label, config.prompt, config.annotator_column)
        imported = import_labels(source, columns, parse_map(config.map), annotator=config.annotator)
    with one_writer(output):
        check_output("--output", output, overwrite=replace)
        beside = output.with_name(f"{output.stem}.reference.jsonl")
        keep = config.append and output.exists()
        if config.kind == "comparison":
            _add(output, imported.comparisons, read_comparisons, imported, keep=keep)
            _add(beside, imported.comparison_references, read_comparisons, imported, keep=beside.exists())
        else:
            _add(output, imported.labels, read_labels, imported, keep=keep)
            _add(beside, imported.references, read_labels, imported, keep=beside.exists())
    return imported


def _add(
    path: Path, new: Sequence[Kept], read: Callable[[Path], list[Kept]], imported: Imported, *, keep: bool
) -> None:
    if not new:
        return
    there: list[Kept] = read(path) if keep else []
    people: Joined[Kept] = join_people(there, new, imported.emails)
    joined, counts = union([*people.records, *new])
    write_records(path, cast(Any, joined))
    imported.counts.update(counts)
    imported.notes.extend(note for note in people.notes if note not in imported.notes)


def main(argv: list[str]) -> None:
    """Parse the options, import, and print what came in and what did not."""
    config = parse(ImportConfig, argv, prog="rlhf label import", description=(__doc__ or "").split(": ", 1)[1])
    imported = run(config)
    print(f"{tally(imported.labels or imported.comparisons)} -> {shown(config.output)}")
    if left_out := listed_counts(imported.counts):
        print(f"left out or merged: {left_out}")
    print_notes(imported.notes)
