"""Seconds and peak memory of the labelling commands on files of up to a million rows, beside the files' sizes.

    .venv/bin/python benchmarks/file_scale.py [--rows 50000 200000] [--only import_csv status] [--work DIR]

Rows are made with a seed: completions of about 150 characters (three in ten with a curly quote, one in ten with an
emoji, as models write them), a uid each, labels of five raters, two on a text (with one memory is at its worst). Every
command runs as a process of its own; CPU seconds and peak resident memory are what the system counted for it (wait4).
`rss - fixed` is the peak less that of the same command on 10 rows, which is what the interpreter and its imports take.
`/ file` divides by the larger one of the files that the command read and wrote, `/ input` by what it read. `linear` is
the CPU time a row beside that at the smallest number of rows, the fixed share taken off.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
WORDS = """
the a of and to in it is was that for on with as at by from this have not but what all were when we there can
an your which their said if will each about how up out them then she many some so these would other into has
more her two like him see time could no make than first been its who now people my made over did down only way
find use may water long little very after called just where most know good great happy sad terrible lovely
awful answer question because however therefore system number example reason better worse simple clear
wonderful boring
"""
RATERS = ("ana", "ben", "cleo", "dario", "eva")
LABELS = ("positive", "neutral", "negative")
FIXED = 10  # rows at which a command's fixed share is measured
POOL = """
import sys
from pathlib import Path
from rewards.targets import hash_labels, pool_labels
from rlhf.foundation.records import Label, lazy_records
labels = lazy_records(Label, Path(sys.argv[1]))
print(hash_labels(labels)[:8], len(pool_labels(labels).texts))
"""


@dataclass(frozen=True)
class Command:
    """A command's words, with {rows} standing for the directory of a size, and the files it reads and writes."""

    words: tuple[str, ...]
    reads: str
    writes: str = ""


def _rlhf(words: str, reads: str, writes: str = "") -> Command:
    return Command(("-m", "rlhf.cli", "label", *words.split()), reads, writes)


COMMANDS = {
    "simulate": _rlhf(
        "simulate --samples {rows}/samples.jsonl --output {rows}/simulated.jsonl --gold lexicon --noise 0.1 "
        "--annotators ana,ben,cleo --overwrite",
        "samples.jsonl",
        "simulated.jsonl",
    ),
    "import_csv": _rlhf(
        "import --input {rows}/labels.csv --output {rows}/from_csv.jsonl --label label --annotator_column annotator "
        "--overwrite",
        "labels.csv",
        "from_csv.jsonl",
    ),
    "import_jsonl": _rlhf(
        "import --input {rows}/foreign.jsonl --output {rows}/from_jsonl.jsonl --label label "
        "--annotator_column annotator --overwrite",
        "foreign.jsonl",
        "from_jsonl.jsonl",
    ),
    "import_studio": _rlhf(
        "import --input {rows}/export.json --output {rows}/from_export.jsonl --overwrite",
        "export.json",
        "from_export.jsonl",
    ),
    "page": _rlhf(
        "page --samples {rows}/samples.jsonl --output_dir {rows}/page --select uncertainty --num_tasks 8 "
        "--scores {rows}/scores.jsonl",
        "samples.jsonl",
    ),
    "status": _rlhf("status --labels {rows}/labels.jsonl", "labels.jsonl"),
    "pool_labels": Command(("-c", POOL, "{rows}/labels.jsonl"), "labels.jsonl"),
}


def text(rng: random.Random) -> str:
    """About 150 characters."""
    said = " ".join(rng.choices(WORDS.split(), k=30))[: rng.randint(120, 180)]
    kind = rng.random()
    return said + (" it\u2019s" if kind < 0.3 else " \U0001f642" if kind < 0.4 else "")


def labels(count: int, seed: int, raters: int) -> Iterator[dict[str, Any]]:
    """Labels in order of time: so many raters a text, who agree in about four of five."""
    rng = random.Random(seed)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(0, count, raters):
        completion, truth = text(rng), rng.choice(LABELS)
        uid = f"{rng.getrandbits(128):032x}"
        for which, rater in enumerate(rng.sample(RATERS, raters)[: count - number]):
            said = truth if rng.random() < 0.85 else rng.choice(LABELS)
            at = start + timedelta(seconds=7 * (number + which), milliseconds=rng.randint(0, 999))
            when = at.isoformat(timespec="milliseconds")
            seconds = round(rng.uniform(1, 30), 3)
            yield {"uid": uid, "text": completion, "label": said, "by": rater, "at": when, "seconds": seconds}


def make_files(where: Path, count: int, seed: int, raters: int) -> None:
    """Every file that the commands read, streamed; those that are there stay."""
    if (where / "done").exists():
        return
    where.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    with (where / "samples.jsonl").open("w", encoding="utf-8") as samples, (where / "scores.jsonl").open("w") as scores:
        for number in range(count):
            uid = f"{rng.getrandbits(128):032x}"
            row = {"uid": uid, "prompt": "", "completion": text(rng), "source": "runs/base", "seed": number}
            samples.write(json.dumps({**row, "logprob": -rng.uniform(50, 200)}, ensure_ascii=False) + "\n")
            scores.write(json.dumps({"uid": uid, "p_positive": rng.random()}) + "\n")
    _write_labels(where, count, seed, raters)
    (where / "done").touch()


def _write_labels(where: Path, count: int, seed: int, raters: int) -> None:
    with (
        (where / "labels.jsonl").open("w", encoding="utf-8") as own,
        (where / "foreign.jsonl").open("w", encoding="utf-8") as foreign,
        (where / "labels.csv").open("w", encoding="utf-8", newline="") as table,
        (where / "export.json").open("w", encoding="utf-8") as export,
    ):
        cells = csv.writer(table)
        cells.writerow(["text", "label", "annotator", "created_at", "lead_time"])
        export.write("[")
        task: dict[str, Any] = {}
        for number, row in enumerate(labels(count, seed, raters)):
            rest = {"annotator": row["by"], "created_at": row["at"], "lead_time": row["seconds"]}
            record = {"uid": row["uid"], "prompt": "", "completion": row["text"], "label": row["label"], **rest}
            own.write(json.dumps({**record, "origin": "manual"}, ensure_ascii=False) + "\n")
            line = {"text": row["text"], "label": row["label"], **rest}
            foreign.write(json.dumps(line, ensure_ascii=False) + "\n")
            cells.writerow(line.values())
            if number % raters == 0:
                task = {"id": number, "data": {"text": row["text"], "uid": row["uid"]}, "annotations": []}
            task["annotations"].append(annotation(number, row))
            if (number + 1) % raters == 0 or number + 1 == count:
                export.write(("," if number >= raters else "") + json.dumps(exported(task), ensure_ascii=False))
        export.write("]")


def annotation(number: int, row: dict[str, Any]) -> dict[str, Any]:
    """One annotation with the fields that Label Studio's JSON export has."""
    choice = {"value": {"choices": [row["label"].capitalize()]}, "id": f"r{number}", "from_name": "sentiment"}
    result = {**choice, "to_name": "text", "type": "choices", "origin": "manual"}
    by = {"id": RATERS.index(row["by"]) + 1, "email": f"{row['by']}@rater.example", "first_name": "", "last_name": ""}
    times = {"created_at": row["at"], "updated_at": row["at"], "draft_created_at": None, "lead_time": row["seconds"]}
    flags = {"was_cancelled": False, "ground_truth": False, "prediction": {}, "result_count": 1, "import_id": None}
    return {"id": number, "completed_by": by, "result": [result], **times, **flags, "task": number, "project": 1}


def exported(task: dict[str, Any]) -> dict[str, Any]:
    """A task with the fields that Label Studio's JSON export has."""
    rest = {"drafts": [], "predictions": [], "meta": {}, "created_at": "2026-01-01T00:00:00Z", "inner_id": task["id"]}
    return {
        **task,
        **rest,
        "total_annotations": len(task["annotations"]),
        "cancelled_annotations": 0,
        "comment_count": 0,
    }


@dataclass(frozen=True)
class Measured:
    """What one process took: CPU and wall-clock seconds, peak resident bytes."""

    cpu: float
    wall: float
    rss: int


def measure(command: Command, rows: Path) -> Measured:
    """Run a command to its end. Raises SystemExit with what it said when it fails."""
    for page in rows.glob("page/*"):  # a folder that stands would be added to
        page.unlink()
    words = [sys.executable, *(word.replace("{rows}", str(rows)) for word in command.words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile() as said:
        started = time.monotonic()
        process = subprocess.Popen(words, stdout=said, stderr=said, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"{' '.join(words)}: exit {process.returncode}\n{said.read().decode()[-2000:]}")
    return Measured(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss * 1024)


def line(name: str, count: int, done: Measured, fixed: Measured, read: int, written: int, each: float) -> str:
    """One row of the table; `each` is CPU seconds a row at the smallest size."""
    grown, largest = done.rss - fixed.rss, max(read, written)
    linear = (done.cpu - fixed.cpu) / count / each
    cells = [name, f"{count:,}", f"{done.cpu:.1f}", f"{done.wall:.1f}", f"{linear:.2f}", f"{done.rss / 1e6:.0f}"]
    cells += [f"{grown / 1e6:.0f}", f"{read / 1e6:.0f}", f"{written / 1e6:.0f}" if written else ""]
    cells += [f"{done.rss / largest:.2f}", f"{grown / largest:.2f}", f"{done.rss / read:.2f}", f"{grown / read:.2f}"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Make the files, run the commands, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[50_000, 200_000])
    parser.add_argument("--only", nargs="+", default=list(COMMANDS), choices=list(COMMANDS))
    parser.add_argument("--raters_per_text", type=int, default=2, choices=range(1, 6))
    parser.add_argument("--work", type=Path, help="directory of the files; kept. Default: a temporary one")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        for count in (FIXED, *options.rows):
            make_files(work / str(count), count, options.seed, options.raters_per_text)
        head = "command | rows | CPU s | wall s | linear | rss MB | rss - fixed MB | read MB | written MB"
        head += " | rss / file | less fixed | rss / input | less fixed"
        print(f"| {head} |\n|{'---|' * 13}", flush=True)
        for name in options.only:
            command, each = COMMANDS[name], 0.0
            fixed = measure(command, work / str(FIXED))
            for count in sorted(options.rows):
                rows = work / str(count)
                done = measure(command, rows)
                each = each or (done.cpu - fixed.cpu) / count
                read = (rows / command.reads).stat().st_size
                written = (rows / command.writes).stat().st_size if command.writes else 0
                print(line(name, count, done, fixed, read, written, each), flush=True)


if __name__ == "__main__":
    main()
