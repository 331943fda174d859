"""`rlhf label import`: CSV, JSON lines or a Label Studio export become labels.jsonl or comparisons.jsonl."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from labeling.importing import Columns, Imported, import_comparisons, import_labels, parse_map
from rlhf.commands.label_output import check_output, listed_counts, tally
from rlhf.foundation.records import read_comparisons, read_labels, write_records
from rlhf.foundation.terminal import shown
from rlhf.option_fields import Options
from rlhf.options import option, parse


@dataclass
class ImportConfig(Options):
    """Options of `rlhf label import`."""

    input: str = option(help="file to read: .csv, .tsv, .jsonl, or .json for Label Studio's full JSON export")
    output: str = option(help="file to write: labels.jsonl, or comparisons.jsonl with --kind comparison")
    kind: Literal["judgement", "comparison"] = option("judgement", help="what the file holds")
    text: str = option("text", help="column (or data field) of the text that was judged")
    label: str = option("", help="column (or control) of the label; default: sentiment, or comparison")
    prompt: str = option("", help="column (or data field) of the prompt, if any; comparisons: default prompt")
    annotator_column: str = option("", help="column that names the annotator, if any")
    annotator: str = option("imported", help="name of the annotator where the file names none")
    map: list[str] = option(
        [], help="what a value means: VALUE=positive, neutral, negative or skip; happy=positive,sad=negative"
    )
    append: bool = option(False, help="keep the rows of an existing output file and add to them")
    overwrite: bool = option(False, help="replace the output file if it exists")


def run(config: ImportConfig) -> Imported:
    """Import the file and write the records; returns them with counts of what was left out. Raises InputError."""
    source, output = Path(config.input), Path(config.output)
    check_output(output, overwrite=config.overwrite or config.append)
    mapping = parse_map(config.map)
    if config.kind == "comparison":
        imported = import_comparisons(
            source, prompt=config.prompt or "prompt", control=config.label or "comparison", annotator=config.annotator
        )
        before = read_comparisons(output) if config.append and output.exists() else []
        write_records(output, {(r.uid, r.annotator): r for r in [*before, *imported.comparisons]}.values())
        return imported
    columns = Columns(config.text, config.label or "sentiment", config.prompt, config.annotator_column)
    imported = import_labels(source, columns, mapping, annotator=config.annotator)
    kept = read_labels(output) if config.append and output.exists() else []
    write_records(output, {(r.uid, r.annotator): r for r in [*kept, *imported.labels]}.values())
    return imported


def main(argv: list[str]) -> None:
    """Parse the options, import, and print what came in and what did not."""
    config = parse(ImportConfig, argv, prog="rlhf label import", description=(__doc__ or "").split(": ", 1)[1])
    imported = run(config)
    print(f"{tally(imported.labels or imported.comparisons)} -> {shown(config.output)}")
    if left_out := listed_counts(imported.counts):
        print(f"left out or merged: {left_out}")
