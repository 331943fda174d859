"""The live report: who is answered, what the page says as a run grows, and when it ends."""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from rlhf.foundation.errors import InputError
from rlhf.inspection import live_server
from rlhf.inspection.live_report import LiveReport
from rlhf.inspection.live_server import LiveServer, watch
from rlhf.whole_loop.inspect_runs import inspect

from .conftest import MakeRun

HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def ask(server: LiveServer, path: str, host: str | None = None, method: str = "GET") -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    connection.request(method, path, headers={"Host": host or f"127.0.0.1:{server.server_port}"})
    return connection.getresponse()


@pytest.fixture
def going(make_run: MakeRun) -> Path:
    """A run at work with two of its three rungs."""
    run = make_run(rungs=3, samples=5, status="running")
    ladder = json.loads((run / "ladder.json").read_text())
    (run / "whole_ladder").write_text(json.dumps(ladder))
    (run / "ladder.json").write_text(json.dumps({**ladder, "rungs": ladder["rungs"][:2]}))
    return run


@pytest.fixture
def server(going: Path) -> Iterator[LiveServer]:
    with LiveServer(LiveReport([going])) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server
        server.shutdown()


def end(run: Path) -> None:
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**info, "status": "finished", "stop_reason": "KL budget reached"}))


def next_rung(run: Path) -> None:
    os.replace(run / "whole_ladder", run / "ladder.json")


def until(found: Callable[[], object]) -> None:
    """Wait for what another thread does."""
    for _ in range(1000):
        if found():
            return
        time.sleep(0.02)
    pytest.fail("it did not happen within 20 s")


@pytest.mark.parametrize(
    ("path", "host", "status"),
    [
        ("/TOKEN/", None, 200),
        ("/TOKEN/", "localhost:PORT", 200),
        ("/TOKEN/state", None, 200),
        ("/TOKEN", None, 404),
        ("/TOKEN/report.html", None, 404),
        ("/TOKEN/../run.json", None, 404),
        ("/", None, 403),
        ("/state", None, 403),
        ("/TOKE/", None, 403),
        ("/TOKENx/", None, 403),
        ("/%ff/", None, 403),
        ("/TOKEN/", "evil.example", 403),
        ("/TOKEN/", "evil.example:PORT", 403),
        ("/TOKEN/", "127.0.0.1", 403),
        ("/TOKEN/state", "127.0.0.1.evil.example:PORT", 403),
    ],
)
def test_who_is_answered(server: LiveServer, path: str, host: str | None, status: int) -> None:
    answer = ask(server, path.replace("TOKEN", server.token), host and host.replace("PORT", str(server.server_port)))
    assert answer.status == status
    assert {name: answer.getheader(name) for name in HEADERS} == HEADERS
    body = answer.read()
    assert (b"<!doctype html>" in body[:200].lower()) == (status == 200 and path.endswith("/"))
    assert status == 200 or server.token.encode() not in body


def test_nothing_but_reading_is_answered(server: LiveServer) -> None:
    answer = ask(server, f"/{server.token}/", method="POST")
    assert answer.status == 501
    assert answer.getheader("X-Frame-Options") == "DENY"
    assert ask(server, f"/{server.token}/", method="HEAD").read() == b""


def test_the_address_is_another_one_every_time_and_only_of_this_machine(going: Path) -> None:
    with LiveServer(LiveReport([going])) as one, LiveServer(LiveReport([going])) as two:
        assert one.token != two.token
        assert len(one.token) >= 32
        assert one.server_address[0] == "127.0.0.1"


def test_the_page_is_made_anew_after_a_new_rung(server: LiveServer, going: Path) -> None:
    place = f"/{server.token}/"
    before, page = ask(server, place + "state").read(), ask(server, place).read().decode()
    assert f'!== "{before.decode()}"' in page
    assert "connect-src 'self'" in page
    assert "iteration 19, KL 10.00 of 10 nats; about to end" in page
    assert "not evaluated yet" in page
    assert "kl-02.50" in page
    assert "kl-10.00" not in page
    assert ask(server, place + "state").read() == before
    next_rung(going)
    assert ask(server, place + "state").read() != before
    assert "kl-10.00" in ask(server, place).read().decode()


def test_a_page_is_made_once_for_all_who_ask(going: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = LiveReport([going])
    first = report.page()
    monkeypatch.setattr("rlhf.inspection.live_report.report_page", lambda *_, **__: pytest.fail("made again"))
    assert report.page() is first


def test_nothing_is_written_into_a_run_at_work(going: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in going.rglob("*")}
    LiveReport([going]).page()
    assert {path: path.stat().st_mtime_ns for path in going.rglob("*")} == before


def test_samples_are_shown_before_the_run_is_evaluated(going: Path) -> None:
    page = LiveReport([going]).page()
    data = json.loads(page.split('<script type="application/json" id="data">')[1].split("</script>")[0])
    rungs = data["runs"][0]["rungs"]
    stored = [json.loads(line) for line in (going / "samples/kl-02.50.jsonl").read_text().splitlines()]
    assert [rung["name"] for rung in rungs] == ["kl-00.00", "kl-02.50"]
    assert rungs[1]["samples"]["text"] == [row["completion"] for row in stored]
    assert rungs[1]["samples"]["score proxy"] == [float(f"{row['reward']:.4g}") for row in stored]


def test_a_run_without_an_iteration_waits(going: Path) -> None:
    lines = (going / "metrics.jsonl").read_text()
    (going / "metrics.jsonl").unlink()
    report = LiveReport([going])
    assert "Nothing to show yet" in report.page()
    assert report.progress() == []
    os.utime(going / "run.json")
    assert f'!== "{report.version}"' in report.page()
    (going / "metrics.jsonl").write_text(lines)
    assert "Nothing to show yet" not in report.page()


def test_a_torn_file_keeps_the_page_before(going: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = LiveReport([going])
    page = report.page()
    whole = (going / "ladder.json").read_text()
    (going / "ladder.json").write_text(whole[:100])
    assert report.page() == page
    (going / "ladder.json").write_text(whole)
    with (going / "metrics.jsonl").open("a") as stream:
        stream.write('{"iteration": 20, "rew')  # a line that is being written
    assert "as of iteration 19" in report.page()
    assert capsys.readouterr().err == ""


def test_a_run_that_writes_no_more_is_told(going: Path) -> None:
    report = LiveReport([going])
    fresh = report.version
    assert "it may have been stopped" not in report.progress()[0]
    long_ago = time.time() - 600
    os.utime(going / "metrics.jsonl", (long_ago, long_ago))
    assert report.version != fresh
    assert "; no iteration for 10 minutes: it may have been stopped" in report.progress()[0]


def test_it_ends_when_the_run_does_and_says_so(going: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_server, "POLL", 0.02)
    told: list[str] = []
    ended: list[bool] = []
    thread = threading.Thread(target=lambda: ended.append(watch([going], tell=told.append)), daemon=True)
    thread.start()
    until(lambda: len(told) == 2)
    assert told[0].startswith("live report: http://127.0.0.1:")
    next_rung(going)
    until(lambda: len(told) == 3)
    end(going)
    thread.join(20)
    assert ended == [True]
    assert told[3] == "run: finished, KL budget reached"


def test_who_looked_a_moment_ago_sees_the_end(server: LiveServer, going: Path) -> None:
    ask(server, f"/{server.token}/").read()
    end(going)
    thread = threading.Thread(target=live_server._until_shown, args=(server,), daemon=True)
    thread.start()
    assert thread.is_alive()
    page = ask(server, f"/{server.token}/").read().decode()
    assert "finished, KL budget reached" in page
    assert "location.reload" not in page
    thread.join(20)
    assert not thread.is_alive()


def test_ctrl_c_ends_the_watching_and_writes_nothing(
    going: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rlhf.inspection.live_server.time.sleep", interrupted)
    assert inspect(str(going), watch=True).report is None
    assert capsys.readouterr().out.endswith("no longer watched; the run goes on\n")
    assert not (going / "report.html").exists()


def test_a_run_that_has_ended_gets_its_report(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(samples=5)
    assert inspect(str(run), watch=True).report == run / "report.html"
    assert "KL budget of 10 nats reached; there is nothing to wait for" in capsys.readouterr().out


@pytest.mark.real
def test_a_browser_loads_the_page_again_by_itself(server: LiveServer, going: Path, chromium: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--headless", "--no-sandbox"])
        page = browser.new_page()
        faults: list[str] = []
        page.on("console", lambda m: faults.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.clock.install()
        page.goto(server.url)
        assert page.locator("tr[data-rung]").count() == 2
        next_rung(going)
        page.clock.run_for(15_000)
        page.wait_for_selector('tr[data-rung="kl-10.00"]')
        server.shutdown()
        server.server_close()
        page.clock.run_for(15_000)
        page.wait_for_function("document.body.innerText.includes('No longer live')")
        browser.close()
    assert [fault for fault in faults if "ERR_CONNECTION_REFUSED" not in fault] == []


def test_what_cannot_be_watched(going: Path, tmp_path: Path) -> None:
    (tmp_path / "reward").mkdir()
    (tmp_path / "reward" / "reward_model.json").write_text("{}")
    with pytest.raises(InputError, match="--watch: got a reward model"):
        inspect(str(tmp_path / "reward"), watch=True)
    with pytest.raises(InputError, match="no such directory"):
        inspect(str(tmp_path / "none"), watch=True)
    with LiveServer(LiveReport([going])) as taken, pytest.raises(InputError, match=r"--port: got .*in use"):
        inspect(str(going), watch=True, port=taken.server_port)
