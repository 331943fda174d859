"""What a person gets wrong: one line on standard error, exit 2, nothing written or lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from labeling import server
from labeling.connection import connect
from labeling.folder import Folder
from labeling.screens import SENTIMENT
from labeling.server_raters import result_of
from labeling.studio import Studio
from rlhf import cli
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import Sample, read_labels, write_records
from tests.labeling.conftest import Live
from tests.labeling.faulty_proxy import Fault, FaultyProxy

GOOD = json.dumps({"uid": "a", "prompt": "", "completion": "text", "source": "m"})


def line_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line of a command that must end with exit status 2."""
    assert cli.main(["label", *words]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    assert err.startswith("rlhf: ")
    return err


@pytest.mark.parametrize("command", ["push", "page"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "an empty file"),
        (f"{GOOD}\n{GOOD[:20]}".encode(), "a torn last line"),
        (f"{GOOD}\n{GOOD}\n".encode(), "uid a a second time"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b'{"uid": "a", "prompt": ""}\n', "no field completion, source"),
        (b'{"uid": 7, "prompt": "", "completion": "x", "source": "m"}\n', "got 7"),
        (b'{"uid": "a", "prompt": "", "completion": " ", "source": "m"}\n', "nothing that can be shown"),
        (b'{"uid": "a\\ud800", "prompt": "", "completion": "x", "source": "m"}\n', "printable characters"),
        (b'{"uid": "a", "prompt": 3, "completion": "x", "source": "m"}\n', "got 3; expected a string"),
        (b'["a"]\n', "a JSON list"),
    ],
)
def test_samples(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / "samples.jsonl"
    if content is not None:
        path.write_bytes(content)
    line = line_of(capsys, command, "--samples", str(path), "--output_dir", str(tmp_path / "folder"))
    assert message in line
    assert not (tmp_path / "folder" / "tasks.jsonl").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["push", "--samples", "s", "--output_dir", "f", "--title", "x"], "3 to 50 characters"),
        (["push", "--samples", "s", "--output_dir", "f", "--title", "na\udce9ve"], "one line of text in UTF-8"),
        (["page", "--samples", "s", "--output_dir", "f", "--question", "a\0b", "--choices", "y,n"], "--question"),
        (["push", "--samples", "s", "--output_dir", "f", "--chunk", "0"], "--chunk"),
        (["push", "--samples", "s", "--output_dir", "f", "--question", "Good?"], "--choices"),
        (["push", "--samples", "s"], "--output_dir"),
        (["push", "--sample", "s", "--output_dir", "f"], "did you mean --samples?"),
        (["pull", "--output_dir", "nowhere"], "no project.json"),
        (["status", "--output_dir", "nowhere"], "no project.json"),
        (["status"], "expected one of them"),
        (["page", "--output_dir", "f"], "neither --samples nor --answers"),
        (["simulate", "--samples", "s", "--output", "o", "--noise", "0.1", "0.2"], "--noise"),
        (["import", "--input", "nothing.csv", "--output", "o"], "no such file"),
        (["serve", "--port", "80"], "--port"),
        (["sing"], "an unknown subcommand"),
    ],
)
def test_options(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in line_of(capsys, *words)


def test_an_existing_output_is_never_replaced_unasked(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "samples.jsonl").write_text(GOOD + "\n", encoding="utf-8")
    (tmp_path / "labels.jsonl").write_text("precious\n", encoding="utf-8")
    words = ["--samples", str(tmp_path / "samples.jsonl"), "--output", str(tmp_path / "labels.jsonl")]
    assert "a file that exists" in line_of(capsys, "simulate", *words)
    assert (tmp_path / "labels.jsonl").read_text(encoding="utf-8") == "precious\n"
    assert cli.main(["label", "simulate", *words, "--gold", "lexicon", "--overwrite"]) == 0
    assert len(read_labels(tmp_path / "labels.jsonl")) == 1


def test_other_peoples_strings_are_no_orders_to_the_terminal(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """ESC, BEL and a direction override in a label, a name, a file's name and an answers file."""
    table, out = tmp_path / "moods\x1b[2J.csv", str(tmp_path / "o.jsonl")
    words = ["import", "--input", str(table), "--output", out, "--label", "label", "--annotator_column", "who"]
    for label, who, said in [
        ("sad\x07\u202e", "ana", r"label values 'sad\x07\u202e' (1)"),
        ("positive", "ana\x1b]0;x\x07", "field 'annotator'"),
        ("positive", "x" * 100_000, "1 to 200 characters"),
    ]:
        table.write_text(f"text,label,who\nO joy,{label},{who}\n", encoding="utf-8")
        line = line_of(capsys, *words)
        assert said in line
        assert line.strip().isprintable()
        assert len(line) < 600
    assert r"moods\x1b[2J.csv" in line_of(capsys, "import", "--input", str(table) + "x", "--output", out)
    assert not Path(out).exists()
    (tmp_path / "samples.jsonl").write_text(GOOD + "\n", encoding="utf-8")
    page = ["page", "--output_dir", str(tmp_path / "page")]
    assert cli.main(["label", *page, "--samples", str(tmp_path / "samples.jsonl")]) == 0
    packet = Folder(tmp_path / "page").need_plan().packet
    answers = {"packet": packet, "annotator": "ana\x07", "answers": []}
    (tmp_path / "answers.json").write_text(json.dumps(answers), encoding="utf-8")
    capsys.readouterr()
    assert "answers.json, annotator" in line_of(capsys, *page, "--answers", str(tmp_path / "answers.json"))
    assert not (tmp_path / "page" / "answers").exists()  # a copy kept there would spoil every later pull


def test_importing_adds_to_what_is_there_when_asked(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("text,label\nO joy,positive\n", encoding="utf-8")
    (tmp_path / "two.csv").write_text("text,label\nAlas,negative\nO joy,neutral\n", encoding="utf-8")
    output = ["--output", str(tmp_path / "labels.jsonl"), "--label", "label"]
    assert cli.main(["label", "import", "--input", str(tmp_path / "one.csv"), *output]) == 0
    assert cli.main(["label", "import", "--input", str(tmp_path / "two.csv"), *output, "--append"]) == 0
    labels = read_labels(tmp_path / "labels.jsonl")
    assert [(x.completion, x.label) for x in labels] == [("O joy", "neutral"), ("Alas", "negative")]


def test_a_server_that_is_down(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "samples.jsonl").write_text(GOOD + "\n", encoding="utf-8")
    words = ["push", "--samples", str(tmp_path / "samples.jsonl"), "--output_dir", str(tmp_path / "folder")]
    monkeypatch.delenv("LABEL_STUDIO_URL", raising=False)
    monkeypatch.delenv("LABEL_STUDIO_API_KEY", raising=False)
    assert "rlhf label serve" in line_of(capsys, *words, "--server_dir", str(tmp_path / "none"))
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "0123456789abcdef")
    line = line_of(capsys, *words)
    assert "no answer" in line
    assert "0123456789abcdef" not in line
    line = line_of(capsys, "pull", "--output_dir", str(tmp_path / "folder"))
    assert "no project.json" in line  # nothing was sent, and nothing written
    assert cli.main(["label", "page", *words[1:3], "--output_dir", str(tmp_path / "page")]) == 0
    capsys.readouterr()
    assert "--answers" in line_of(capsys, "pull", "--output_dir", str(tmp_path / "page"))


@pytest.mark.real
def test_what_can_be_wrong_on_the_server(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, label_studio: Live, tmp_path: Path, title: str
) -> None:
    """Wrong, empty and expired tokens, a slow server, a changed configuration, a deleted project, one title twice."""
    write_records(tmp_path / "samples.jsonl", [Sample(f"u{i}", "", f"text {i}", "m") for i in range(3)])
    folder, studio = Folder(tmp_path / "folder"), label_studio.connect()
    common = ["--output_dir", str(folder.path), "--quiet"]
    push = ["push", "--samples", str(tmp_path / "samples.jsonl"), "--title", title, *common]
    token = label_studio.accounts["admin"].token
    monkeypatch.setenv("LABEL_STUDIO_URL", label_studio.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", token)
    assert cli.main(["label", *push]) == 0
    project = folder.need_plan().projects[0].id
    studio.annotate(studio.list_tasks(project)[0].id, result_of(SENTIMENT, "Positive"))
    assert cli.main(["label", "pull", *common]) == 0
    before = (folder.path / "labels.jsonl").read_bytes()
    capsys.readouterr()

    def both(message: str) -> None:
        for words in (push, ["pull", *common], ["pull", "--full", *common]):
            line = line_of(capsys, *words)
            assert message in line
            assert token not in line
        assert (folder.path / "labels.jsonl").read_bytes() == before

    for key, message in [("f" * 40, "unknown or expired token"), ("", "an empty token")]:
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", key)
        both(message)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", token)
    proxy = FaultyProxy(label_studio.url, lambda *_: "delay", delay=1.0)
    monkeypatch.setenv("LABEL_STUDIO_URL", proxy.url)
    assert "no answer within 0.2 s" in line_of(capsys, "pull", *common, "--timeout", "0.2")
    proxy.close()
    monkeypatch.setenv("LABEL_STUDIO_URL", label_studio.url)
    config = studio.project(project)[1]
    studio._sdk.projects.update(project, label_config=config.replace('value="Negative"', 'value="Sad"'))
    both("choice 'Negative' became 'Sad'")
    studio._sdk.projects.update(project, label_config=config)
    assert cli.main(["label", "pull", *common]) == 0
    assert (folder.path / "labels.jsonl").read_bytes() == before
    studio.delete_project(project)
    capsys.readouterr()
    both("a project or task that exists")
    for _ in range(2):
        studio.create_project(title, config, instruction="", by_priority=False)
    again = [*push[:-2], str(tmp_path / "other"), "--quiet"]
    assert "2 projects of that title" in line_of(capsys, *again)


@pytest.mark.real
@pytest.mark.slow
def test_a_server_killed_in_the_middle_of_a_push_and_of_a_pull(
    label_studio: Live, tmp_path: Path, title: str, request: pytest.FixtureRequest
) -> None:
    """SIGKILL the server, see one line and exit 2, start it again, run the same command: nothing lost or doubled."""
    venv, directory = server.cache_directory(), tmp_path / "server"
    request.addfinalizer(lambda: server.stop(directory))
    shutil.copytree(venv / "migrated", directory)
    running = server.start(directory, venv=venv, say=print)
    write_records(tmp_path / "samples.jsonl", [Sample(f"u{i}", "", f"text {i}", "m") for i in range(60)])
    env = {k: v for k, v in os.environ.items() if not k.startswith("LABEL_STUDIO_")}
    common = ["--output_dir", str(tmp_path / "folder"), "--server_dir", str(directory), "--quiet"]
    push = ["push", "--samples", str(tmp_path / "samples.jsonl"), "--title", title, "--chunk", "3", *common]

    def start(words: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "rlhf.cli", "label", *words], env=env, stderr=subprocess.PIPE, text=True
        )

    process = start(push)
    studio = Studio(running.url, server.read_accounts(directory)["admin"].token)
    folder = Folder(tmp_path / "folder")
    while True:  # until the push is well under way
        plan = folder.read_plan()
        if plan and plan.projects and len(studio.list_tasks(plan.projects[0].id)) >= 9:
            break
        time.sleep(0.05)
    os.kill(running.pid, signal.SIGKILL)
    _, err = process.communicate()
    assert process.returncode == 2, err
    assert err.count("\n") == 1, err
    running = server.start(directory, venv=venv, say=print)
    studio = Studio(running.url, server.read_accounts(directory)["admin"].token)
    again = start(push)
    _, err = again.communicate()
    assert again.returncode == 0, err
    project = folder.need_plan().projects[0].id
    tasks = studio.list_tasks(project)
    assert Counter(task.uid for task in tasks) == Counter(f"u{i}" for i in range(60))
    for task in tasks[:4]:
        studio.annotate(task.id, result_of(SENTIMENT, "Positive"))
    assert start(["pull", *common]).wait() == 0
    before = (folder.path / "labels.jsonl").read_bytes()
    studio.annotate(tasks[4].id, result_of(SENTIMENT, "Negative"))

    def kill_at_export(method: str, path: str, n: int) -> Fault:
        if "/export" in path:
            os.kill(running.pid, signal.SIGKILL)
        return "pass"

    proxy = FaultyProxy(running.url, kill_at_export)
    token = server.read_accounts(directory)["admin"].token
    env |= {"LABEL_STUDIO_URL": proxy.url, "LABEL_STUDIO_API_KEY": token}
    stopped = start(["pull", *common])
    _, err = stopped.communicate()
    assert stopped.returncode == 2, err
    assert err.count("\n") == 1, err
    assert token not in err
    assert (folder.path / "labels.jsonl").read_bytes() == before
    proxy.close()
    del env["LABEL_STUDIO_URL"], env["LABEL_STUDIO_API_KEY"]
    server.start(directory, venv=venv, say=print)
    assert start(["pull", *common]).wait() == 0
    assert len(read_labels(folder.path / "labels.jsonl")) == 5


def test_a_password_in_the_address_is_not_repeated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://someone:s3cret-word@127.0.0.1:9")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "0123456789abcdef")
    with pytest.raises(InputError, match="got an address with a user or password in it") as caught:
        connect(tmp_path)
    assert "s3cret" not in str(caught.value)
    assert "someone" not in str(caught.value)
