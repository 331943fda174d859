"""A labelling folder knows the server that its tasks went to: nobody names it twice, and no secret is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from labeling.connection import KEY, URL, connect, remembered_url, remembering, server_directory
from labeling.folder import Folder, Plan
from labeling.screens import SENTIMENT
from rlhf import cli
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import Sample, write_records
from tests.labeling.conftest import Live

PLAN = Plan(SENTIMENT, False, "Feelings")


@pytest.fixture(autouse=True)
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(URL, raising=False)
    monkeypatch.delenv(KEY, raising=False)


def test_the_last_push_is_remembered(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write_plan(remembering(PLAN, "server"))
    plan = folder.need_plan()
    assert server_directory("", plan) == Path("server").resolve()
    assert server_directory("other", plan) == Path("other")
    assert remembering(plan, "") == plan
    monkeypatch.setenv(URL, "http://studio.example:8080/")
    folder.write_plan(remembering(plan, ""))
    plan = folder.need_plan()
    assert remembered_url("", plan) == "http://studio.example:8080"
    assert remembered_url("server", plan) == ""  # one that is named counts
    monkeypatch.delenv(URL)
    assert remembering(plan, "") == plan
    assert remembered_url("", remembering(plan, "server")) == ""


def test_a_folder_of_an_earlier_version_remembers_none(folder: Folder) -> None:
    folder.write_plan(PLAN)
    path = folder.path / "project.json"
    text = path.read_text(encoding="utf-8")
    for name in ("server_url", "reviewers"):
        text = text.replace(f'"{name}"', f'"former_{name}"')
    path.write_text(text, encoding="utf-8")
    assert folder.need_plan() == PLAN


def test_the_token_is_asked_for_by_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=f"{KEY}: got nothing; expected the token of http://studio.example"):
        connect(tmp_path, url="http://studio.example")
    monkeypatch.setenv(URL, "http://ana:secret@studio.example")
    with pytest.raises(InputError, match="a user or password in it") as caught:
        remembering(PLAN, "")
    assert "secret" not in str(caught.value)


@pytest.mark.real
def test_push_and_pull_name_the_server_once(
    label_studio: Live, tmp_path: Path, title: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "nothing"))
    write_records(Path("samples.jsonl"), [Sample("u0", "", "a text", "m")])
    common = ["--output_dir", "folder", "--quiet"]
    push = ["label", "push", "--samples", "samples.jsonl", "--title", title, *common]
    assert cli.main([*push, "--server_dir", str(label_studio.directory)]) == 0
    told = capsys.readouterr().out.splitlines()[-1]
    assert told == f"next: rlhf label pull --output_dir folder --server_dir {label_studio.directory}"
    assert cli.main(["label", "pull", *common]) == 0
    # The same server as one of one's own: the address is remembered, the token is not.
    key = label_studio.accounts["admin"].token
    monkeypatch.setenv(URL, label_studio.url)
    monkeypatch.setenv(KEY, key)
    assert cli.main(push) == 0
    monkeypatch.delenv(URL)
    assert cli.main(["label", "pull", *common]) == 0
    monkeypatch.delenv(KEY)
    assert cli.main(["label", "pull", *common]) == 2
    assert f"the token of {label_studio.url}" in capsys.readouterr().err
    assert all(key.encode() not in path.read_bytes() for path in Path("folder").rglob("*") if path.is_file())
