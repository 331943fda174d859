"""A directory of files with a record beside: ours are replaced, nobody else's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlhf.foundation.errors import InputError
from rlhf.foundation.outputs import OwnFiles


def write(directory: Path, *names: str, text: str = "mine") -> list[Path]:
    writers = {name: (lambda path: path.write_text(text)) for name in names}
    return OwnFiles("--tables", directory, "record.json", writers, {"of": "a run"}).write()


def test_files_and_record_are_written(tmp_path: Path) -> None:
    assert write(tmp_path / "new" / "there", "a.csv", "b.csv") == [
        tmp_path / "new/there/a.csv",
        tmp_path / "new/there/b.csv",
    ]
    assert json.loads((tmp_path / "new/there/record.json").read_text()) == {"of": "a run", "files": ["a.csv", "b.csv"]}


def test_a_second_call_replaces_the_first_s_and_takes_away_what_it_has_not(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", "b.csv")
    write(tmp_path, "a.csv", text="again")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "record.json"]
    assert (tmp_path / "a.csv").read_text() == "again"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "another's"),
        ("record.json", "{}"),
        ("record.json", "torn"),
        ("record.json", '{"files": "a.csv"}'),
        ("record.json", '["a.csv"]'),
    ],
)
def test_another_s_file_stays(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=f"{name}, a file of something else"):
        write(tmp_path, "b.csv", "a.csv")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == content


def test_a_record_that_names_other_places_takes_nothing_away(tmp_path: Path) -> None:
    (tmp_path / "outside.csv").write_text("kept")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text("kept")
    listed = ["../outside.csv", str(tmp_path / "outside.csv"), "metrics.jsonl"]
    (tmp_path / "run" / "record.json").write_text(json.dumps({"files": listed}))
    write(tmp_path / "run", "a.csv")
    assert (tmp_path / "outside.csv").exists()
    assert (tmp_path / "run" / "metrics.jsonl").exists()


def test_what_a_failed_call_wrote_is_ours_to_replace(tmp_path: Path) -> None:
    def fails(path: Path) -> None:
        raise RuntimeError("killed")

    writers = {"a.csv": lambda path: path.write_text("half"), "b.csv": fails}
    with pytest.raises(RuntimeError):
        OwnFiles("--tables", tmp_path, "record.json", writers, {}).write()
    assert write(tmp_path, "a.csv", "b.csv")


def test_a_file_in_the_directory_s_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match="out, a file; expected a directory"):
        write(tmp_path / "out", "a.csv")
