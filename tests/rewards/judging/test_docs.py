"""Every command and every line of Python of docs/judge.md runs, against a judge on the loopback."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from rlhf import cli
from rlhf.foundation.model_directory import save_model
from rlhf.foundation.yaml_files import read_yaml
from tests.pages import blocks
from tests.rewards.conftest import toy_model, toy_tokenizer
from tests.rewards.judging.server import KEY, Asked, JudgeServer

URL = "http://127.0.0.1:8000/v1"


def reply(asked: Asked) -> str:
    """Three points for each joy beside the first; of two texts it prefers the one shown first."""
    return "Winner: A" if "<A>" in asked.question else f"Score: {1 + 3 * min(3, asked.question.count('joy'))}"


@pytest.mark.slow
def test_the_page_runs(server: JudgeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    server.reply = reply
    save_model(toy_model(), toy_tokenizer(), Path("runs/model"))
    sample = ["sample", "--model_name_or_path", "runs/model", "--num_samples", "20"]
    assert cli.main([*sample, "--output_path", "runs/samples.jsonl", "--quiet"]) == 0
    names: dict[str, object] = {"__name__": "page"}
    printed = io.StringIO()
    for one in blocks("docs/judge.md"):
        code = one.code.replace(URL, server.url)
        if one.mark.startswith("file "):
            Path(one.mark.split()[1]).write_text(code, encoding="utf-8")
        elif one.language == "yaml":  # a line for the file above it
            Path("further.yaml").write_text(Path("helpful.yaml").read_text() + code, encoding="utf-8")
            assert read_yaml(Path("further.yaml"), "further.yaml")["request"]["max_completion_tokens"] == 2000
        elif one.language == "python":
            with redirect_stdout(printed):
                exec(compile(code, "docs/judge.md", "exec"), names)
        elif one.language == "bash":
            for words in one.commands():
                assert cli.main([word.replace(URL, server.url) for word in words[1:]]) == 0
    assert "[4.0, 1.0]" in printed.getvalue()  # "What joy!", "What sorrow."
    assert "JudgeCost(texts=2, repeated=0, cached=0, calls=2" in printed.getvalue()
    assert Path("runs/judged/metrics.jsonl").read_text().count("judge/helpful/calls") >= 2
    assert [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()] == []
