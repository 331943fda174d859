"""Two thousand texts against a server that fails in every way: each is scored once, in order, and never paid twice."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import pytest

import rewards
from tests.rewards.judging.server import KEY, MODEL, TOKENS, Asked, serving

N = 2000
FAULTS = {0: "500", 1: "500", 2: "429", 3: "cut", 4: "hang", 5: "page", 6: "429-0.2"}


def number_of(question: str) -> int:
    found = re.search(r"text number (\d+)", question)
    assert found
    return int(found[1])


def fault(asked: Asked) -> str | None:
    """Seven texts of a hundred fail at first, some of them twice."""
    kind = zlib.crc32(asked.question.encode()) % 100
    return FAULTS.get(kind) if asked.before < (2 if kind in (1, 3) else 1) else None


def reply(asked: Asked) -> str:
    """The last digit on a scale from 0 to 9; of three texts of a hundred only when asked again."""
    n = number_of(asked.question)
    rubbish = zlib.crc32(asked.question.encode()) % 100 in (10, 11, 12) and len(asked.body["messages"]) == 1
    return "It is somewhere between 3 and 5." if rubbish else f"Text {n} it is.\nScore: {n % 10}"


@pytest.mark.slow
def test_2000_texts_are_scored_once_each_whatever_the_server_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    texts = [f"text number {i}" for i in range(N)]
    with serving(reply, fault) as server:
        options = {"scale": (0, 9), "concurrency": 32, "timeout": 1.5, "key_env": "JUDGE_KEY", "cache_dir": tmp_path}
        judge = rewards.judge(server.url, MODEL, template="{completion}", **options)
        scores = judge(prompts=[""] * N, completions=texts)
        assert scores == [i % 10 for i in range(N)]
        assert set(server.faults) == set(FAULTS.values())
        assert min(server.faults.values()) >= 5
        given = {number_of(q): [r for r in said if r and "Score" in r] for q, said in server.replies.items()}
        assert sorted(given) == list(range(N))
        assert all(len(said) == 1 for said in given.values())
        assert server.most_open <= 32 + server.faults["hang"]  # one that hung is still open on the server's side
        answered = sum(map(len, server.replies.values()))
        cost = judge.cost
        assert (cost.texts, cost.repeated, cost.cached, cost.unreadable) == (N, 0, 0, 0)
        assert cost.calls == answered + server.faults["page"]
        assert cost.retries == server.faults.total()
        assert (cost.prompt_tokens, cost.completion_tokens) == (answered * TOKENS[0], answered * TOKENS[1])

        before = server.requests.total()
        again = rewards.judge(server.url, MODEL, template="{completion}", **options)
        assert again(prompts=[""] * N, completions=texts[::-1]) == scores[::-1]
        assert server.requests.total() == before
        assert (again.cost.calls, again.cost.cached, again.cost.prompt_tokens) == (0, N, 0)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()] == []
    assert KEY not in repr(judge) + str(judge.identity()) + "".join(capfd.readouterr())
