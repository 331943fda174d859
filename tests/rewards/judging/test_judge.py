"""A judge as a reward: what it is shown, what is kept, what is told, and what is refused in one line."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import pytest

import rewards
from rewards.calling import call_rewards
from rewards.judging.cache import cache_directory
from rlhf.foundation.digests import value_digest
from rlhf.foundation.errors import InputError
from rlhf.runs.provenance import reward_inputs
from tests.rewards.judging.server import KEY, MODEL, Asked, JudgeServer, serving

TEXTS = ["joy", "woe", "joy joy", "joy"]
SCORES = [2.0, 1.0, 3.0, 2.0]  # 1 + the number of joys
FAST: dict[str, Any] = {"timeout": 0.5, "retries": 1}


def scored(judge: Any, texts: list[str] = TEXTS) -> list[float | None]:
    found: list[float | None] = judge(prompts=["Say something."] * len(texts), completions=texts)
    return found


def refusal(server_url: str, **options: Any) -> str:
    """The one line in which a judge is refused, or fails; no key in it, nor in its traceback."""
    with pytest.raises(InputError) as caught:
        scored(rewards.judge(**{"url": server_url, "model": MODEL, **FAST, **options}))
    line = str(caught.value)
    assert "\n" not in line
    assert KEY not in line + "".join(traceback.format_exception(caught.value))
    return line


def test_the_same_text_is_asked_once_and_a_second_judge_asks_nothing(server: JudgeServer) -> None:
    judge = rewards.judge(server.url, MODEL)
    assert scored(judge) == SCORES
    assert server.requests.total() == 3
    assert (judge.cost.texts, judge.cost.repeated, judge.cost.calls) == (4, 1, 3)
    assert scored(rewards.judge(server.url + "/", MODEL)) == SCORES
    assert server.requests.total() == 3
    assert scored(rewards.judge(server.url, MODEL, temperature=0.5)) == SCORES  # another question
    assert server.requests.total() == 6
    assert [path.name for path in cache_directory().glob("*.sqlite")] == ["answers.sqlite"]


def test_it_is_shown_conversations_as_a_reader_has_them(server: JudgeServer) -> None:
    prompt = [{"role": "system", "content": "Be {brief}."}, {"role": "user", "content": "Greet me."}]
    judge = rewards.judge(server.url, MODEL, scale=(0, 10))
    judge(prompts=[prompt], completions=[[{"role": "assistant", "content": "joy {0} \ud800"}]])
    (question,) = server.requests
    assert "<prompt>\nsystem: Be {brief}.\n\nuser: Greet me.\n</prompt>" in question
    assert "<completion>\njoy {0} ?\n</completion>" in question  # UTF-8 has no lone surrogates
    assert question.endswith('the line "Score: NUMBER", where NUMBER is from 0 (worst) to 10 (best).')


def test_it_works_in_several_loops_and_where_one_runs(server: JudgeServer) -> None:
    judge = rewards.judge(server.url, MODEL)

    async def notebook() -> list[float | None]:
        return scored(judge, ["joy joy joy"])

    assert asyncio.run(notebook()) == [4.0]
    assert [scored(judge, [f"joy {i}"]) for i in range(3)] == [[2.0]] * 3
    rows = call_rewards([judge, rewards.load("length")], ["", ""], ["joy", "woe"])
    assert rows[0] == [2.0, 1.0]


@pytest.mark.parametrize("notebook", [False, True])
def test_ctrl_c_ends_it_at_once_and_keeps_what_came(server: JudgeServer, notebook: bool) -> None:
    def slowly(asked: Asked) -> str:
        if "late" in asked.question:
            if "late 0" in asked.question:
                os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        return "5"

    server.reply = slowly
    judge = rewards.judge(server.url, MODEL, concurrency=1)
    texts = [f"early {i}" for i in range(5)] + [f"late {i}" for i in range(30)]

    async def cell() -> None:
        scored(judge, texts)

    # The loop of a notebook does not handle signals, as that of asyncio.run would.
    run = asyncio.new_event_loop().run_until_complete if notebook else None
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(cell()) if run else scored(judge, texts)
    assert time.monotonic() - begun < 10
    again = rewards.judge(server.url, MODEL)
    assert scored(again, texts[:5]) == [5.0] * 5
    assert (again.cost.cached, again.cost.calls) == (5, 0)


def test_so_many_at_once_and_no_more(server: JudgeServer) -> None:
    def slowly(asked: Asked) -> str:
        time.sleep(0.05)
        return "1"

    server.reply = slowly
    scored(rewards.judge(server.url, MODEL, concurrency=5), [str(i) for i in range(20)])
    assert server.most_open == 5


def test_a_pause_that_the_server_asks_for_is_kept(server: JudgeServer) -> None:
    server.fault = lambda asked: "429-1.3" if asked.before == 0 else None
    scored(rewards.judge(server.url, MODEL, retries=1), ["joy"])
    (_, first), (_, second) = server.waits
    assert 1.3 <= second - first < 3  # its own first pause would be at most 0.5 s


def test_an_unreadable_reply_is_asked_for_again_once(server: JudgeServer, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[list[dict[str, str]]] = []

    def reply(asked: Asked) -> str:
        seen.append(asked.body["messages"])
        return "Score: 5" if len(asked.body["messages"]) == 3 and "bad" not in asked.question else "Between 3 and 9."

    server.reply = reply
    judge = rewards.judge(server.url, MODEL, concurrency=1)
    told: dict[str, float] = {}
    assert judge(prompts=["", ""], completions=["good", "bad"], log_metric=told.__setitem__) == [5.0, None]
    assert [m["role"] for m in seen[1]] == ["user", "assistant", "user"]
    assert seen[1][1]["content"] == "Between 3 and 9."
    assert (told["judge/judge/calls"], told["judge/judge/unreadable"], judge.cost.calls) == (4, 1, 4)
    assert "1 of 2 replies have no score that can be read" in capsys.readouterr().err
    assert scored(rewards.judge(server.url, MODEL), ["good"]) == [5.0]

    strict = rewards.judge(server.url, MODEL, unreadable="refuse")
    for _ in range(2):  # what is refused is asked for anew; what was read is not
        before = len(seen)
        with pytest.raises(InputError, match=r"1 of 2 replies without a score.*'bad'.*Score: 10"):
            strict(prompts=["", ""], completions=["good", "bad"])
        assert len(seen) == before + 2


def test_a_reply_cut_at_the_limit_of_tokens_is_none(server: JudgeServer) -> None:
    server.reply = lambda asked: "LONG \nScore: 1"  # of a 10, it may be
    assert scored(rewards.judge(server.url, MODEL), ["joy"]) == [None]


def test_a_request_s_further_fields(server: JudgeServer) -> None:
    bodies = []
    server.reply = lambda asked: bodies.append(asked.body) or "1"  # type: ignore[func-returns-value]
    request = {"max_tokens": None, "max_completion_tokens": 9, "seed": 3, "temperature": None}
    one = rewards.judge(server.url, MODEL, request=request)
    scored(one, ["joy"])
    assert {k: v for k, v in bodies[0].items() if k != "messages"} == {
        "model": MODEL, "max_completion_tokens": 9, "seed": 3,
    }  # fmt: skip
    assert one.identity() != rewards.judge(server.url, MODEL).identity()


def test_what_it_was_counts_for_a_run(server: JudgeServer, tmp_path: Path) -> None:
    one = rewards.judge(server.url, MODEL)
    (digest,) = reward_inputs([one]).values()
    assert digest == value_digest(one.identity())
    speed: dict[str, Any] = {"timeout": 9, "retries": 2, "concurrency": 2, "cache_dir": tmp_path, "key_env": "OTHER"}
    assert rewards.judge(server.url, MODEL, **speed).identity() == one.identity()
    for other in ({"scale": (1, 5)}, {"template": "{completion}"}, {"temperature": 1}, {"model": "x"}):
        assert rewards.judge(**{"url": server.url, "model": MODEL, **other}).identity() != one.identity()
    assert KEY not in repr(one) + repr(one.identity()) + repr(one.endpoint)


def test_failures_of_the_server_are_one_line(server: JudgeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "got 404 The model nobody does not exist; 0 of 3 texts" in refusal(server.url, model="nobody")
    assert "got 404 no /chat/completions here" in refusal(server.url.removesuffix("/v1"))
    server.fault = lambda asked: "500"
    assert "got 500 out of order; 0 of 3 texts" in refusal(server.url)
    server.fault = lambda asked: "429-0.1"
    assert "got 429 slow down" in refusal(server.url)
    server.fault = lambda asked: "429-500"  # longer than anyone waits
    assert "got 429 slow down" in refusal(server.url, retries=9)
    server.fault = lambda asked: "hang"
    assert "got no word for 0.5 s" in refusal(server.url, retries=0)
    server.fault = lambda asked: "cut"
    assert "got no connection (peer closed connection" in refusal(server.url)
    server.fault = lambda asked: "page"
    assert "got something else than a chat completion" in refusal(server.url)
    server.fault = lambda asked: None
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-9876")
    line = refusal(server.url)
    assert "got 401 Incorrect API key provided: Bearer ***" in line
    assert "set $OPENAI_API_KEY" in line
    assert "sk-wrong" not in line


def test_a_short_key_under_another_name_is_shown_nowhere(server: JudgeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "zq7")
    assert "zq7" not in refusal(server.url, key_env="MINE")


def test_a_server_that_is_down_is_one_line() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        line = refusal(f"http://127.0.0.1:{free.getsockname()[1]}/v1")
    assert "got no connection" in line
    assert "start the server" in line


def test_what_was_answered_before_a_failure_is_kept(server: JudgeServer, tmp_path: Path) -> None:
    texts = [f"joy {i}" for i in range(30)]
    server.fault = lambda asked: "500" if sum(map(len, server.replies.values())) >= 20 else None
    line = ""
    with pytest.raises(InputError) as caught:
        scored(rewards.judge(server.url, MODEL, concurrency=4, cache_dir=tmp_path / "kept", retries=0), texts)
    line = str(caught.value)
    assert "got 500 out of order; 20 of 30 texts are answered and kept in" in line
    assert str(tmp_path / "kept") in line
    assert "--resume" in line
    assert server.requests.total() <= 24  # those under way, and no new one
    server.fault = lambda asked: None
    judge = rewards.judge(server.url, MODEL, cache_dir=tmp_path / "kept")
    assert scored(judge, texts) == [2.0] * 30
    assert (judge.cost.cached, judge.cost.calls) == (20, 10)
    assert {len(said) for said in server.replies.values()} == {1}


@pytest.mark.slow
def test_several_processes_share_a_cache(server: JudgeServer, tmp_path: Path) -> None:
    code = (
        "import sys, rewards\n"
        f"judge = rewards.judge({server.url!r}, {MODEL!r}, cache_dir={str(tmp_path / 'shared')!r})\n"
        "texts = [f'joy {sys.argv[1]} {i}' for i in range(60)]\n"
        "assert judge(prompts=[''] * 60, completions=texts) == [2.0] * 60\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(n)]) for n in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    again = rewards.judge(server.url, MODEL, cache_dir=tmp_path / "shared")
    again(prompts=[""] * 180, completions=[f"joy {n} {i}" for n in range(3) for i in range(60)])
    assert (again.cost.cached, again.cost.calls) == (180, 0)


@pytest.mark.parametrize("damage", ["overwritten", "torn"])
def test_a_damaged_cache_is_named(server: JudgeServer, tmp_path: Path, damage: str) -> None:
    scored(rewards.judge(server.url, MODEL, cache_dir=tmp_path), [f"joy {i}" for i in range(50)])
    path = tmp_path / "answers.sqlite"
    whole = path.read_bytes()
    path.write_bytes(b"no database at all " * 100 if damage == "overwritten" else whole[: len(whole) // 2 + 77])
    line = refusal(server.url, cache_dir=tmp_path)
    assert f"the judge's cache {path}: got a damaged file" in line
    assert "move the file away" in line


def test_a_cache_that_cannot_be_made_is_named(server: JudgeServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert f"the judge's cache {tmp_path}/file" in refusal(server.url, cache_dir=tmp_path / "file")


def test_a_missing_key_is_one_line_and_not_needed_for_what_is_known(
    server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(rewards.judge(server.url, MODEL))
    monkeypatch.delenv("OPENAI_API_KEY")
    assert scored(rewards.judge(server.url, MODEL)) == SCORES
    assert "got no $OPENAI_API_KEY in the environment" in refusal(server.url, model="other")
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\u2028x")
    assert "with characters that no key has" in refusal(server.url, model="other")
    assert "Bearer none" in refusal(server.url, model="other", key_env="")  # a server that needs no key is sent none


def test_without_the_client_library_it_is_one_line(server: JudgeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    assert "pip install 'rlhf-ladder[judge]'" in refusal(server.url)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"url": "127.0.0.1:8000"}, "url: got '127.0.0.1:8000'"),
        ({"url": "ftp://host/v1"}, "url: got 'ftp://host/v1'"),
        ({"url": "http://host:port/v1"}, "url: got no address"),
        ({"url": None}, "url: got None"),
        ({"url": f"http://me:{KEY}@host/v1"}, "url: got a secret, not shown"),
        ({"url": f"http://host/v1?api-key={KEY}"}, "url: got a secret, not shown"),
        ({"key_env": KEY}, "key_env: got something else than a variable's name"),
        ({"request": {"extra": [{"api_key": KEY}]}}, "request, api_key: got a secret, not shown"),
        ({"request": {"stream": True}}, "request: got the field stream"),
        ({"model": ""}, "model: got ''"),
        ({"template": "no field"}, "template: got a template with no field; expected {completion}, and {prompt}"),
        ({"template": "{completion} {answer}"}, "template: got a template with {completion}, {answer}"),
        ({"template": "{completion.__class__}"}, "template: got a template with {completion.__class__}"),
        ({"template": "{completion"}, "template: got a template that cannot be read"),
        ({"instruction": "Be good."}, "instruction: got a template with no field; expected {low}, {high}"),
        ({"scale": (1,)}, "scale: got (1,)"),
        ({"scale": (10, 1)}, "scale: got (10, 1)"),
        ({"scale": (1, "10")}, "scale: got (1, '10')"),
        ({"scale": (1, float("inf"))}, "scale: got (1, inf)"),
        ({"unreadable": "guess"}, "unreadable: got 'guess'"),
        ({"temperature": -1}, "temperature: got -1; expected a number from 0 to 2"),
        ({"temperature": float("nan")}, "temperature: got nan"),
        ({"retries": 1.5}, "retries: got 1.5; expected a whole number"),
        ({"timeout": 0}, "timeout: got 0"),
        ({"concurrency": True}, "concurrency: got True"),
    ],
    ids=str,
)
def test_what_cannot_be_is_one_line(options: dict[str, Any], said: str) -> None:
    assert said in refusal("http://127.0.0.1:9/v1", **options)


def test_it_is_a_kind_of_reward_file(server: JudgeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("joyful.yaml").write_text(
        f"judge: {server.url}\nmodel: {MODEL}\nscale: [1, 20]\ntemperature: 0\ntimeout: 5\nkey_env: OPENAI_API_KEY\n"
        'template: "<completion>{completion}</completion>"\nrequest: {seed: 1}\ncache_dir: answers\n'
    )
    judge = rewards.load("joyful.yaml")
    assert judge.__name__ == "joyful"  # type: ignore[attr-defined]
    assert scored(judge) == SCORES
    assert Path("answers/answers.sqlite").exists()
    Path("mixed.yaml").write_text("weights: {joyful.yaml: 2, length: 0.5}\nconstraints: []\n")
    assert scored(rewards.load("mixed.yaml"), ["joy joy"]) == [2 * 3 + 0.5 * 2]  # length is in words


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"api_key: {KEY}", "got the key api_key, its value not shown"),
        (f"headers: {{Authorization: {KEY}}}", "got the key headers"),
        ("scale: 10", "got scale: 10"),
        ("scale: [1, ten]", "got [1, 'ten']"),
        ("temperatur: 0", "got the key temperatur"),
        ("retries: many", "got retries: many"),
        ("model:", "got a judge without a model"),
    ],
)
def test_a_wrong_reward_file_is_one_line(line: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "judge.yaml"
    model = "" if line.startswith("model") else f"model: {MODEL}\n"
    path.write_text(f"judge: http://127.0.0.1:9/v1\n{model}{line}\n")
    with pytest.raises(InputError) as caught:
        rewards.load(str(path))
    assert said in str(caught.value)
    assert KEY not in str(caught.value)


def test_a_key_that_the_model_repeats_is_not_kept(tmp_path: Path) -> None:
    with serving(lambda asked: f"{KEY}\nScore: 4") as server:
        assert scored(rewards.judge(server.url, MODEL, cache_dir=tmp_path), ["joy"]) == [4.0]
    assert all(KEY.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
