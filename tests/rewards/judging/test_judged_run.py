"""A policy that follows a judge: its cost stands in the metrics, and nothing is paid twice for a run that broke off."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rlhf import cli
from rlhf.foundation.model_directory import save_model
from tests.rewards.conftest import toy_model, toy_tokenizer
from tests.rewards.judging.server import KEY, MODEL, TOKENS, Asked, JudgeServer

OPTIONS = shlex.split(
    "--model_name_or_path policy --reward_func joyful.yaml --iteration_batch_size 32 --minibatch_size 16 "
    "--max_completion_length 6 --num_eval_samples 8 --kl_budget 40 --normalization_samples 32 "
    "--learning_rate 1e-3 --use_cpu --quiet"
)


def lines_of(run: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]


def without_cost(line: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in line.items() if not k.startswith("judge/") and "second" not in k and "memory" not in k}


def run(*words: str, iterations: int = 4) -> int:
    return cli.main(["ppo", *OPTIONS, "--max_iterations", str(iterations), *words])


def by_letters(asked: Asked) -> str:
    """1 point, and one more for each o in the completion, up to 10."""
    return f"Score: {min(10, 1 + asked.question.partition('<completion>')[2].partition('</completion>')[0].count('o'))}"


@pytest.fixture
def folder(server: JudgeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model and a judge beside it."""
    monkeypatch.chdir(tmp_path)
    server.reply = by_letters
    save_model(toy_model(), toy_tokenizer(), tmp_path / "policy")
    Path("joyful.yaml").write_text(f"judge: {server.url}\nmodel: {MODEL}\nretries: 0\ntimeout: 20\nconcurrency: 4\n")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("end", ["failure", "kill"])
def test_a_run_that_broke_off_goes_on_and_asks_for_nothing_again(
    server: JudgeServer, folder: Path, end: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pids: list[int] = []

    def break_off(asked: Asked) -> str | None:
        if sum(map(len, server.replies.values())) < 90:  # in the second rollout
            return None
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        return "500"

    server.fault = break_off
    if end == "failure":
        assert run("--output_dir", "run") == 2
        assert "judge joyful at" in (said := capsys.readouterr().err)
        assert "500 out of order" in said
        assert KEY not in said
    else:
        process = subprocess.Popen(
            [sys.executable, "-m", "rlhf", "ppo", *OPTIONS, "--max_iterations", "4", "--output_dir", "run"],
            env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])},
        )
        pids.append(process.pid)
        assert process.wait(120) == -signal.SIGKILL
        pids.clear()
    answered = set(server.replies)
    assert len(answered) >= 90

    server.fault = lambda asked: None
    assert run("--output_dir", "run", "--resume") == 0
    twice = sum(len(said) - 1 for said in server.replies.values())
    assert twice <= (4 if end == "kill" else 0)  # what was on its way to a killed process never arrived
    assert len(server.replies) > len(answered)

    before = server.requests.total()
    assert run("--output_dir", "again") == 0  # from the beginning, and free
    assert server.requests.total() == before
    broken, whole = lines_of("run"), lines_of("again")
    assert [without_cost(line) for line in broken] == [without_cost(line) for line in whole]
    assert [line["judge/joyful/calls"] for line in whole] == [0] * len(whole)
    for line in broken:
        asked, cached, repeated = (line[f"judge/joyful/{name}"] for name in ("calls", "cached", "repeated"))
        assert asked + cached + repeated == line["judge/joyful/texts"]
    last = broken[-1]
    assert last["judge/joyful/calls"] > 0
    assert last["judge/joyful/prompt_tokens"] == TOKENS[0] * last["judge/joyful/calls"]
    assert last["judge/joyful/completion_tokens"] == TOKENS[1] * last["judge/joyful/calls"]
    assert [p for p in folder.rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()] == []


@pytest.mark.slow
def test_another_judge_than_the_run_s_is_refused(
    server: JudgeServer, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--output_dir", "run", iterations=1) == 0
    with Path("joyful.yaml").open("a") as stream:
        stream.write("temperature: 1\n")
    assert run("--output_dir", "run", "--resume", iterations=2) == 2
    assert "reward 1, joyful" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_that_ended_goes_on_for_more_iterations_and_asks_only_for_what_is_new(
    server: JudgeServer, folder: Path
) -> None:
    assert run("--output_dir", "run", iterations=2) == 0
    before, known = server.requests.total(), set(server.replies)
    assert run("--output_dir", "run", "--resume", iterations=4) == 0
    assert server.requests.total() > before
    assert server.requests.total() == len(server.replies)  # no text twice, neither across the two calls
    assert known < set(server.replies)

    asked = server.requests.total()
    assert run("--output_dir", "at_once", iterations=4) == 0  # four from the beginning: bit for bit, and free
    assert server.requests.total() == asked
    raised, at_once = lines_of("run"), lines_of("at_once")
    assert [line["iteration"] for line in raised] == [line["iteration"] for line in at_once]
    assert [without_cost(line) for line in raised] == [without_cost(line) for line in at_once]
