"""Killed writers leave nothing for ever, and never take a model with them; one command writes at a time."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rlhf.foundation.errors import InputError
from rlhf.foundation.files import write_text
from rlhf.foundation.leftovers import sweep
from rlhf.foundation.locks import sole_writer
from rlhf.foundation.model_directory import load_tokenizer, replacing_directory

# Writes `place` as a model directory, and is killed when it calls the COUNTth os-level rename of `_swap`.
DRIVER = """
import os, pathlib, signal, sys
from rlhf.foundation import model_directory
place, count = pathlib.Path(sys.argv[1]), int(sys.argv[2])
real, calls = pathlib.Path.rename, 0
def deadly(self, target):
    global calls
    calls += 1
    if calls == count:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, target)
pathlib.Path.rename = deadly
with model_directory.replacing_directory(place) as temporary:
    (temporary / "config.json").write_text("new")
"""


def killed_while_replacing(place: Path, count: int) -> None:
    place.mkdir()
    (place / "config.json").write_text("old")
    done = subprocess.run([sys.executable, "-c", DRIVER, str(place), str(count)], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_a_model_that_only_its_hidden_directory_holds_is_put_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "model"
    killed_while_replacing(place, 2)  # moved aside, the new one not yet in place
    assert not place.exists()
    sweep(tmp_path)
    assert (place / "config.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    told = capsys.readouterr().err.splitlines()
    assert told[0] == f"rlhf: put {place} back, which a killed writer had moved aside"
    assert len(told) == 2  # and the new one's temporary is gone


def test_loading_and_writing_again_find_it_too(tmp_path: Path) -> None:
    place = tmp_path / "model"
    killed_while_replacing(place, 2)
    with pytest.raises(InputError, match="unusable files"):  # found, though no tokenizer is in it
        load_tokenizer(str(place))
    assert (place / "config.json").read_text() == "old"
    with replacing_directory(place) as temporary:
        (temporary / "config.json").write_text("newer")
    assert (place / "config.json").read_text() == "newer"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_killed_writer_s_temporaries_are_swept_by_the_next_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (".labels.jsonl.ab12cd_3.tmp", ".other.jsonl.ab12cd_3.tmp", ".labels.jsonl.tmp", "labels.jsonl.tmp"):
        (tmp_path / name).write_text("half")
    write_text(tmp_path / "labels.jsonl", "whole")
    # Only that file's own temporary: the others' writers will see to theirs, and what is not ours stays.
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".labels.jsonl.tmp", ".other.jsonl.ab12cd_3.tmp", "labels.jsonl", "labels.jsonl.tmp",
    ]  # fmt: skip
    assert "removed" in capsys.readouterr().err


def test_a_living_writer_is_left_alone(tmp_path: Path) -> None:
    with replacing_directory(tmp_path / "model") as temporary:
        (temporary / "config.json").write_text("{}")
        sweep(tmp_path)
        assert temporary.exists()
    assert (tmp_path / "model" / "config.json").exists()


def test_the_second_command_on_one_directory_is_refused(tmp_path: Path) -> None:
    with sole_writer(tmp_path / "new" / "rm"):
        with pytest.raises(InputError, match="in use by another command"), sole_writer(tmp_path / "new" / "rm"):
            pass
        with sole_writer(tmp_path / "new" / "other"):
            pass
    with sole_writer(tmp_path / "new" / "rm"):
        pass
    assert list((tmp_path / "new").iterdir()) == []
