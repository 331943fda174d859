"""Many processes add to one file of labels at once: every row stays, and nothing is left beside it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from labeling.steps.import_labels import ImportConfig, import_labels
from rlhf.foundation.errors import InputError
from rlhf.foundation.locks import one_writer
from rlhf.foundation.records import read_labels

PROCESSES, FILES, ROWS = 8, 3, 20
FORK = multiprocessing.get_context("fork")


def add_files(folder: Path, process: int) -> None:
    for number in range(FILES):
        source = folder / f"{process}-{number}.csv"
        rows = "".join(f"text {process} {number} {i},positive\n" for i in range(ROWS))
        source.write_text("text,sentiment\n" + rows, encoding="utf-8")
        import_labels.run(ImportConfig(str(source), str(folder / "labels.jsonl"), append=True))


def test_eight_appends_at_once_keep_every_row(tmp_path: Path) -> None:
    processes = [FORK.Process(target=add_files, args=(tmp_path, i)) for i in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    labels = read_labels(tmp_path / "labels.jsonl")
    assert len({label.completion for label in labels}) == len(labels) == PROCESSES * FILES * ROWS
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".csv"] * PROCESSES * FILES + [".jsonl"]


def create(folder: Path, process: int) -> None:
    (folder / f"{process}.csv").write_text("text,sentiment\na,positive\n", encoding="utf-8")
    config = ImportConfig(str(folder / f"{process}.csv"), str(folder / "labels.jsonl"))
    try:
        import_labels.run(config)
    except InputError as error:
        os._exit(2 if "a file that exists" in str(error) else 1)


def test_of_two_that_make_one_file_the_second_is_refused(tmp_path: Path) -> None:
    processes = [FORK.Process(target=create, args=(tmp_path, i)) for i in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert sorted(process.exitcode for process in processes) == [0, 2, 2, 2]


def hold(path: Path) -> None:
    with one_writer(path):
        path.with_suffix(".held").touch()
        time.sleep(60)


def test_a_killed_writer_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    process = FORK.Process(target=hold, args=(path,))
    process.start()
    while not path.with_suffix(".held").exists():
        time.sleep(0.01)
    assert (tmp_path / ".labels.jsonl.lock").exists()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    begun = time.monotonic()
    with one_writer(path):
        assert time.monotonic() - begun < 5
    assert not (tmp_path / ".labels.jsonl.lock").exists()


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"writing .*labels\.jsonl"), one_writer(tmp_path / "file" / "labels.jsonl"):
        pass
