"""Pushing to a real Label Studio through faults: every uid once, whatever breaks."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from labeling.campaign import judgement_tasks, plan_tasks, push_all
from labeling.fetching import check_config
from labeling.folder import Folder, Task
from labeling.screens import SENTIMENT
from labeling.sending import Pushed
from labeling.server_raters import result_of
from labeling.studio import Studio
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import Sample, write_records
from tests.labeling.conftest import Live
from tests.labeling.faulty_proxy import FaultyProxy, on_imports

pytestmark = pytest.mark.real

HOSTILE = [
    "<script>alert(1)</script>",
    "\u202eright to left \u05d0\u05d1\u05d2",
    "emoji 😀👩‍👩‍👧",
    "line\nline\u2028line",
]


def samples(n: int) -> list[Sample]:
    return [Sample(f"uid-{i}", "", f"completion number {i}", "secret-model") for i in range(n)]


def push(studio: Studio, folder: Folder, title: str, n: int, *, chunk: int = 7, settle: float = 5.0) -> Pushed:
    tasks, _ = judgement_tasks(samples(n))
    plan, joined = plan_tasks(folder, SENTIMENT, title, tasks)
    done = push_all(
        folder, plan, joined, [""], lambda _: studio, check=check_config, chunk=chunk, settle_seconds=settle
    )
    return done[""]


def uids(studio: Studio, folder: Folder) -> Counter[str | None]:
    return Counter(task.uid for task in studio.list_tasks(folder.need_plan().projects[0].id))


def each_once(n: int) -> Counter[str | None]:
    return Counter(f"uid-{i}" for i in range(n))


@pytest.fixture
def proxies() -> Iterator[list[FaultyProxy]]:
    made: list[FaultyProxy] = []
    yield made
    for proxy in made:
        proxy.close()


def test_pushing_twice_and_then_more_adds_only_what_is_missing(studio: Studio, folder: Folder, title: str) -> None:
    assert push(studio, folder, title, 20).created == 20
    again = push(studio, folder, title, 20)
    assert (again.created, again.present) == (0, 20)
    more = push(studio, folder, title, 30)
    assert (more.created, more.present) == (10, 20)
    assert uids(studio, folder) == each_once(30)


def test_a_lost_folder_finds_its_project_by_title(studio: Studio, folder: Folder, title: str, tmp_path: Path) -> None:
    push(studio, folder, title, 5)
    (tmp_path / "other").mkdir()
    other = Folder(tmp_path / "other")
    assert push(studio, other, title, 5).present == 5


def test_502_after_the_commit_on_every_second_import(
    label_studio: Live, folder: Folder, title: str, proxies: list[FaultyProxy]
) -> None:
    proxy = FaultyProxy(label_studio.url, on_imports("502 after", lambda n: n % 2 == 0))
    proxies.append(proxy)
    pushed = push(label_studio.connect(url=proxy.url), folder, title, 100)
    assert pushed.uncertain_imports == 7  # 15 chunks of 7, every second answered 502
    assert uids(label_studio.connect(), folder) == each_once(100)
    assert pushed.twins_removed == 0  # nothing was sent twice, so nothing had to be removed


@pytest.mark.parametrize("fault", ["cut after", "hang after"])
def test_an_answer_that_never_comes(
    label_studio: Live, folder: Folder, title: str, proxies: list[FaultyProxy], fault: str
) -> None:
    proxy = FaultyProxy(label_studio.url, on_imports(fault, lambda n: n == 2), delay=4.0)  # type: ignore[arg-type]
    proxies.append(proxy)
    pushed = push(label_studio.connect(url=proxy.url, timeout=2.0), folder, title, 20)
    assert pushed.uncertain_imports >= 1
    assert uids(label_studio.connect(), folder) == each_once(20)


def test_a_late_commit_makes_a_twin_that_the_next_push_removes(
    label_studio: Live, folder: Folder, title: str, proxies: list[FaultyProxy]
) -> None:
    """The forward is delayed beyond the client's patience: the tasks are sent again, and then the first ones land."""
    proxy = FaultyProxy(label_studio.url, on_imports("delay", lambda n: n == 1), delay=4.0)
    proxies.append(proxy)
    slow = label_studio.connect(url=proxy.url, timeout=1.0)
    push(slow, folder, title, 7, settle=0.5)
    direct = label_studio.connect()
    deadline = time.monotonic() + 20
    while sum(uids(direct, folder).values()) < 14 and time.monotonic() < deadline:
        time.sleep(0.3)
    assert sum(uids(direct, folder).values()) == 14
    elder = direct.list_tasks(folder.need_plan().projects[0].id)[0]
    assert push(direct, folder, title, 7).twins_removed == 7
    assert uids(direct, folder) == each_once(7)
    assert elder.id in {task.id for task in direct.list_tasks(folder.need_plan().projects[0].id)}


def test_a_twin_that_someone_labelled_is_the_one_kept(studio: Studio, folder: Folder, title: str) -> None:
    push(studio, folder, title, 2)
    project = folder.need_plan().projects[0].id
    data = {"uid": "uid-0", "text": "completion number 0"}
    (twin,) = studio.import_tasks(project, [{"data": data}])
    result = [{"from_name": "sentiment", "to_name": "text", "type": "choices", "value": {"choices": ["Positive"]}}]
    studio.annotate(twin, result)
    assert push(studio, folder, title, 2).twins_removed == 1
    assert twin in {task.id for task in studio.list_tasks(project)}
    both = [studio.import_tasks(project, [{"data": data}])[0]]
    studio.annotate(both[0], result)
    assert push(studio, folder, title, 2).twins_labelled == 1  # nobody's work is thrown away


def command(folder: Path, title: str, n: int, url: str, token: str, *more: str) -> subprocess.Popen[bytes]:
    """`rlhf label push` as a process of its own, in a session of its own, so that it can be killed."""
    path = folder.parent / f"samples-{n}.jsonl"
    if not path.exists():
        write_records(path, samples(n))
    words = ["label", "push", "--samples", str(path), "--output_dir", str(folder), "--title", title, "--quiet"]
    env = {**os.environ, "LABEL_STUDIO_URL": url, "LABEL_STUDIO_API_KEY": token}
    return subprocess.Popen(
        [sys.executable, "-m", "rlhf.cli", *words, "--chunk", "7", *more],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.slow
def test_killed_while_the_server_is_committing(
    label_studio: Live, folder: Folder, title: str, proxies: list[FaultyProxy]
) -> None:
    """SIGKILL while an import waits in the proxy; it is forwarded after the death, and the next push waits for it."""
    proxy = FaultyProxy(label_studio.url, on_imports("delay", lambda n: n == 3), delay=4.0)
    proxies.append(proxy)
    token = label_studio.accounts["admin"].token
    process = command(folder.path, title, 40, proxy.url, token)
    while len(proxy.times) < 3:
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert uids(label_studio.connect(), folder).total() == 14  # the third import is still on its way
    done = command(folder.path, title, 40, label_studio.url, token)
    out, err = done.communicate()
    assert done.returncode == 0, err
    assert uids(label_studio.connect(), folder) == each_once(40)
    assert b"19 tasks sent, 21 were there" in out  # it waited for the seven instead of sending them again


@pytest.mark.slow
def test_killed_at_random_moments(label_studio: Live, folder: Folder, title: str, proxies: list[FaultyProxy]) -> None:
    """Three kills here; ten, of which at least five between the imports, in benchmarks/labeling_acceptance.py."""
    proxy = FaultyProxy(label_studio.url, lambda *_: "pass")
    proxies.append(proxy)
    chance = random.Random(0)
    for _ in range(3):
        process = command(folder.path, title, 100, proxy.url, label_studio.accounts["admin"].token)
        before = len(proxy.times)
        while len(proxy.times) == before and process.poll() is None:
            time.sleep(0.02)
        time.sleep(chance.uniform(0.0, 1.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
    last = command(folder.path, title, 100, proxy.url, label_studio.accounts["admin"].token)
    _, err = last.communicate()
    assert last.returncode == 0, err
    assert uids(label_studio.connect(), folder) == each_once(100)


def test_two_projects_of_one_title_are_told_apart_by_nobody(studio: Studio, folder: Folder, title: str) -> None:
    config = "<View><Text name='text' value='$text'/></View>"
    for _ in range(2):
        studio.create_project(title, config, instruction="", by_priority=False)
    with pytest.raises(InputError, match="2 projects of that title"):
        push(studio, folder, title, 3)


def test_a_project_of_the_same_title_that_asks_something_else(studio: Studio, folder: Folder, title: str) -> None:
    config = "<View><Text name='text' value='$text'/></View>"
    studio.create_project(title, config, instruction="", by_priority=False)
    with pytest.raises(InputError, match="control 'Choices sentiment' is gone"):
        push(studio, folder, title, 3)


def test_hostile_texts_come_back_as_they_were(studio: Studio, folder: Folder, title: str) -> None:
    texts = [*HOSTILE, "nul\0 and lone \ud800", "x" * 1_000_000, " \n"]
    tasks, counts = judgement_tasks([Sample(f"h{i}", "", text, "m") for i, text in enumerate(texts)])
    assert counts == {
        "lone surrogate replaced": 1,
        "NUL replaced": 1,
        "cut to 20000 characters": 1,
        "empty text": 1,
    }
    plan, joined = plan_tasks(folder, SENTIMENT, title, tasks)
    push_all(folder, plan, joined, [""], lambda _: studio, check=check_config)
    project = folder.need_plan().projects[0].id
    result = [{"from_name": "sentiment", "to_name": "text", "type": "choices", "value": {"choices": ["Positive"]}}]
    for task in studio.list_tasks(project):
        studio.annotate(task.id, result)
    shown = {item["data"]["uid"]: item["data"]["text"] for item in studio.export(project)}
    assert shown == {
        **{f"h{i}": t for i, t in enumerate(HOSTILE)},
        "h4": "nul\ufffd and lone \ufffd",
        "h5": "x" * 20000,
    }


def test_scores_order_the_queue_and_show_nothing(
    label_studio: Live, studio: Studio, folder: Folder, title: str
) -> None:
    """Lowest priority first; a later model's scores take over, also for the tasks that were there before."""

    def first_two(version: str, priorities: dict[str, float]) -> list[str]:
        tasks = [Task(uid, "", f"text {uid}", priority=p) for uid, p in priorities.items()]
        plan, joined = plan_tasks(folder, SENTIMENT, title, tasks)
        push_all(folder, plan, joined, [""], lambda _: studio, check=check_config, scores_version=version)
        served = []
        for _ in range(2):
            request = urllib.request.Request(
                f"{label_studio.url}/api/projects/{folder.need_plan().projects[0].id}/next",
                headers={"Authorization": f"Token {label_studio.accounts['admin'].token}"},
            )
            with urllib.request.urlopen(request) as answer:
                shown = json.load(answer)
            assert not any(prediction["result"] for prediction in shown["predictions"])
            served.append(shown["data"]["uid"])
            studio.annotate(shown["id"], result_of(SENTIMENT, "Positive"))
        return served

    assert first_two("order-1", {"a": 0.9, "b": 0.1, "c": 0.5, "d": 0.7}) == ["b", "c"]
    assert first_two("order-2", {"a": 0.2, "b": 0.0, "c": 0.0, "d": 0.8, "e": 0.4}) == ["a", "e"]


def test_nothing_but_texts_and_uid_reaches_the_server(studio: Studio, folder: Folder, title: str) -> None:
    push(studio, folder, title, 3)
    answer = json.dumps([task.uid for task in studio.list_tasks(folder.need_plan().projects[0].id)])
    assert "secret-model" not in answer
    assert all(
        task.data(SENTIMENT, shows_prompt=False).keys() == {"uid", "text"} for task in folder.read_tasks().values()
    )
