"""Pulling from a real Label Studio: every annotation counted, changes followed, interruptions without loss."""

from __future__ import annotations

import dataclasses
import json
import resource
import signal
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from labeling.campaign import comparison_tasks, judgement_tasks, plan_tasks, push_all
from labeling.fetching import check_config, fetch
from labeling.folder import Folder, Project, Task
from labeling.pairs import Pair
from labeling.returned import REFERENCE
from labeling.screens import COMPARISON, SENTIMENT, Screen, label_config
from labeling.studio import Studio
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import Sample, read_comparisons, read_labels
from tests.labeling.conftest import Live
from tests.labeling.faulty_proxy import FaultyProxy

pytestmark = pytest.mark.real


def result(choice: str, control: str = "sentiment", target: str = "text", **more: Any) -> list[dict[str, Any]]:
    return [{"from_name": control, "to_name": target, "type": "choices", "value": {"choices": [choice]}, **more}]


def campaign(studio: Studio, folder: Folder, title: str, tasks: Sequence[Task], screen: Screen = SENTIMENT) -> int:
    plan, joined = plan_tasks(folder, screen, title, tasks)
    push_all(folder, plan, joined, [""], lambda _: studio, check=check_config)
    return folder.need_plan().projects[0].id


def judgements(n: int) -> list[Task]:
    return judgement_tasks([Sample(f"uid-{i:03d}", "", f"text {i}", "m") for i in range(n)])[0]


def ids(studio: Studio, project: int) -> dict[str, int]:
    return {task.uid: task.id for task in studio.list_tasks(project) if task.uid}


def always(studio: Studio) -> Callable[[Project], Studio]:
    return lambda project: studio


def draft(live: Live, task: int) -> None:
    """What the browser sends while someone is still at it."""
    request = urllib.request.Request(
        f"{live.url}/api/tasks/{task}/drafts",
        data=json.dumps({"result": result("Positive"), "lead_time": 1}).encode(),
        headers={"Authorization": f"Token {live.accounts['admin'].token}", "Content-Type": "application/json"},
    )
    urllib.request.urlopen(request).close()


def test_every_annotation_is_counted_and_the_latest_wins(
    label_studio: Live, studio: Studio, folder: Folder, title: str
) -> None:
    project = campaign(studio, folder, title, judgements(8))
    task = ids(studio, project)
    studio.annotate(task["uid-000"], result("Positive"), lead_time=2.0)
    studio.annotate(task["uid-001"], result("Negative"), was_cancelled=True)
    studio.annotate(task["uid-002"], [])
    studio.annotate(task["uid-003"], result("Wonderful"))
    studio.annotate(task["uid-004"], result("Positive", control="mood"))
    studio.annotate(task["uid-005"], result("Neutral", origin="prediction"))
    studio.annotate(task["uid-006"], result("Positive"))
    studio.annotate(task["uid-006"], result("Negative"))
    (stranger,) = studio.import_tasks(project, [{"data": {"text": "by hand", "uid": "not-ours"}}])
    studio.annotate(stranger, result("Positive"))
    pulled = fetch(folder, always(studio))
    assert {k: n for k, n in pulled.counts.items() if n} == {
        "labelled": 3,
        "skipped": 1,
        "empty": 1,
        "unknown choice": 1,
        "unknown control": 1,
        "accepted untouched": 1,
        "superseded": 1,
        "unknown task": 1,
    }
    assert pulled.annotations == 9
    draft(label_studio, task["uid-007"])
    assert fetch(folder, always(studio)).counts["draft"] == 0
    assert fetch(folder, always(studio), full=True).counts["draft"] == 1  # begun, never submitted
    labels = read_labels(folder.path / "labels.jsonl")
    assert [(x.uid, x.label, x.origin, x.annotator) for x in labels] == [
        ("uid-000", "positive", "manual", "admin"),
        ("uid-005", "neutral", "prediction", "admin"),
        ("uid-006", "negative", "manual", "admin"),
    ]
    assert labels[0].lead_time == 2.0


def test_ground_truth_is_a_reference_and_no_raters_label(studio: Studio, folder: Folder, title: str) -> None:
    project = campaign(studio, folder, title, judgements(2))
    task = ids(studio, project)
    studio.annotate(task["uid-000"], result("Positive"))
    studio.annotate(task["uid-000"], result("Negative"), ground_truth=True)
    pulled = fetch(folder, always(studio))
    assert [x.label for x in read_labels(folder.path / "labels.jsonl")] == ["positive"]
    assert [x.label for x in read_labels(folder.path / "labels.reference.jsonl")] == ["negative"]
    assert {k: n for k, n in pulled.counts.items() if n} == {"labelled": 1, REFERENCE: 1}
    (folder.path / "pulled.json").write_text('{"1": {"7": {"updated_at": "", "annotations": [{"task": 1}]}}}')
    assert fetch(folder, always(studio)).fetched_tasks == 2  # what another version remembered is fetched again


def test_incremental_pull_equals_a_full_one_after_every_kind_of_change(
    studio: Studio, folder: Folder, title: str
) -> None:
    """7 changed, 3 deleted and 5 new annotations, 2 deleted tasks."""
    project = campaign(studio, folder, title, judgements(30))
    task = ids(studio, project)
    names = sorted(task)
    made = {name: studio.annotate(task[name], result("Positive")) for name in names[:20]}
    first = fetch(folder, always(studio))
    assert (first.fetched_tasks, len(first.labels)) == (30, 20)
    api = studio.annotations_api()
    for name in names[:7]:
        api.update(made[name], result=result("Negative"))
    for name in names[7:10]:
        api.delete(made[name])
    for name in names[20:25]:
        studio.annotate(task[name], result("Neutral"))
    for name in (names[10], names[29]):  # one labelled, one not
        studio.delete_task(task[name])
    second = fetch(folder, always(studio))
    incremental = (folder.path / "labels.jsonl").read_bytes()
    assert second.fetched_tasks == 15
    assert second.counts["gone tasks"] == 2
    full = fetch(folder, always(studio), full=True)
    assert (folder.path / "labels.jsonl").read_bytes() == incremental
    assert full.fetched_tasks == 28
    by_label = [x.label for x in read_labels(folder.path / "labels.jsonl")]
    assert [by_label.count(x) for x in ("negative", "positive", "neutral")] == [7, 9, 5]
    assert fetch(folder, always(studio)).fetched_tasks == 0
    assert (folder.path / "labels.jsonl").read_bytes() == incremental


@pytest.mark.parametrize("fault", ["cut half-way", "cut after", "502 after"])
def test_an_interrupted_pull_loses_nothing(label_studio: Live, folder: Folder, title: str, fault: str) -> None:
    studio = label_studio.connect()
    project = campaign(studio, folder, title, judgements(6))
    task = ids(studio, project)
    for name in list(task)[:3]:
        studio.annotate(task[name], result("Positive"))
    fetch(folder, always(studio))
    before = (folder.path / "labels.jsonl").read_bytes()
    for name in list(task)[3:]:
        studio.annotate(task[name], result("Negative"))
    broken = {"now": True}
    proxy = FaultyProxy(
        label_studio.url,
        lambda method, path, n: fault if broken["now"] and "/export" in path else "pass",  # type: ignore[return-value]
    )
    through = label_studio.connect(url=proxy.url)
    with pytest.raises(InputError, match="exporting project"):
        fetch(folder, always(through))
    assert (folder.path / "labels.jsonl").read_bytes() == before
    broken["now"] = False
    assert len(fetch(folder, always(through)).labels) == 6
    proxy.close()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('value="Positive"', 'value="Happy"', "choice 'Positive' became 'Happy'"),
        ('name="sentiment"', 'name="mood"', "control 'Choices sentiment' became 'Choices mood'"),
        ('value="$text"', 'value="$uid"', "field '$text' became '$uid'"),
    ],
)
def test_a_configuration_changed_by_hand_is_named(
    studio: Studio, folder: Folder, title: str, old: str, new: str, message: str
) -> None:
    project = campaign(studio, folder, title, judgements(2))
    config = label_config(SENTIMENT, shows_prompt=False)
    assert old in config
    studio._sdk.projects.update(project, label_config=config.replace(old, new))
    with pytest.raises(InputError) as caught:
        fetch(folder, always(studio))
    assert message in str(caught.value)
    with pytest.raises(InputError):
        campaign(studio, folder, title, judgements(3))


def test_a_deleted_project_is_one_line(studio: Studio, folder: Folder, title: str) -> None:
    project = campaign(studio, folder, title, judgements(2))
    studio.delete_project(project)
    with pytest.raises(InputError, match="status 404"):
        fetch(folder, always(studio))
    with pytest.raises(InputError, match="status 404"):
        studio.export(project)
    with pytest.raises(InputError, match="status 404"):
        studio.import_tasks(project, [{"data": {"text": "a"}}])
    with pytest.raises(InputError, match="status 404"):
        studio.list_tasks(project)


def test_swapped_sides_come_back_unswapped(studio: Studio, folder: Folder, title: str) -> None:
    """A rater who always prefers the text marked BEST, whichever side it is on, is recovered; ties are counted."""
    pairs = [Pair(f"p{i:02d}", "Say:", f"BEST {i}", f"worse {i}") for i in range(0, 24, 2)]
    pairs += [Pair(f"p{i:02d}", "Say:", f"worse {i}", f"BEST {i}") for i in range(1, 24, 2)]
    tasks, _ = comparison_tasks(pairs, seed=0)
    assert 4 <= sum(task.swapped for task in tasks) <= 20
    project = campaign(studio, folder, title, tasks, COMPARISON)
    shown = {task.uid: task.data(COMPARISON, shows_prompt=True) for task in tasks}
    task = ids(studio, project)
    for uid, number in task.items():
        side = "Left" if shown[uid]["answer1"].startswith("BEST") else "Right"
        choice = "Tie" if uid in ("p00", "p01", "p02") else side
        studio.annotate(number, result(choice, "comparison", "answers"))
    fetch(folder, always(studio))
    comparisons = read_comparisons(folder.path / "comparisons.jsonl")
    assert len(comparisons) == 24
    assert sum(c.tie for c in comparisons) == 3
    decided = [c for c in comparisons if not c.tie]
    assert all(c.chosen.startswith("BEST") and c.rejected.startswith("worse") for c in decided)
    sides = {choice for c in decided for choice in [shown[c.uid]["answer1"] == c.chosen]}
    assert sides == {True, False}  # both sides won, so an un-swap that did nothing would be seen


def test_wrong_tokens_and_addresses_are_one_line_without_the_token(label_studio: Live) -> None:
    secret = "0123456789abcdef" * 2 + "deadbeef"
    for key, url, message in [
        (secret, label_studio.url, "unknown or expired token"),
        ("", label_studio.url, "an empty token"),
        ("two words", label_studio.url, "a token with blanks"),
        (secret, "http://127.0.0.1:9", "no answer"),
        (secret, "not an address", "an address like"),
    ]:
        with pytest.raises(InputError, match=message) as caught:
            Studio(url, key).whoami()
        assert secret not in str(caught.value)
        assert caught.value.__cause__ is None
        assert "\n" not in str(caught.value)


def test_an_expired_personal_token(label_studio: Live) -> None:
    import jwt

    token = jwt.encode({"exp": 1, "token_type": "refresh"}, "k" * 32, algorithm="HS256")
    with pytest.raises(InputError, match="expired token"):
        Studio(label_studio.url, token).whoami()


def test_a_personal_access_token_works_as_the_legacy_one(label_studio: Live) -> None:
    made = label_studio.connect()._sdk.tokens.create()
    assert Studio(label_studio.url, made.token).whoami() == "admin@rater.example"


def test_a_slow_server_is_one_line(label_studio: Live) -> None:
    proxy = FaultyProxy(label_studio.url, lambda *_: "delay", delay=3.0)
    with pytest.raises(InputError, match=r"no answer within 0\.3 s"):
        label_studio.connect(url=proxy.url, timeout=0.3).whoami()
    proxy.close()


def test_a_full_disk_keeps_the_last_pull(studio: Studio, folder: Folder, title: str) -> None:
    """/dev/full refuses every write; a directory where the temporary file should go does the same here."""
    project = campaign(studio, folder, title, judgements(2))
    task = ids(studio, project)
    studio.annotate(task["uid-000"], result("Positive"))
    fetch(folder, always(studio))
    before = (folder.path / "labels.jsonl").read_bytes()
    studio.annotate(task["uid-001"], result("Positive"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, limits[1]))  # a write beyond 16 bytes fails, as on a full disk
    try:
        with pytest.raises(InputError, match="writing"):
            fetch(folder, always(studio))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert (folder.path / "labels.jsonl").read_bytes() == before
    assert len(fetch(folder, always(studio)).labels) == 2


def test_raters_projects_are_pulled_together_and_kept_apart(label_studio: Live, folder: Folder, title: str) -> None:
    plan, tasks = plan_tasks(folder, SENTIMENT, title, judgements(4))
    push_all(folder, plan, tasks, ["ana", "ben"], label_studio.connect, check=check_config)
    for project, choice in zip(folder.need_plan().projects, ("Positive", "Negative"), strict=True):
        studio = label_studio.connect(project.rater)
        for number in ids(studio, project.id).values():
            studio.annotate(number, result(choice))
    fetch(folder, lambda project: label_studio.connect(project.rater))
    labels = read_labels(folder.path / "labels.jsonl")
    assert {(x.annotator, x.label) for x in labels} == {("ana", "positive"), ("ben", "negative")}
    assert len(labels) == 8
    with pytest.raises(InputError, match="status 404"):
        label_studio.connect("ben").project(folder.need_plan().projects[0].id)


def test_folder_in_use(folder: Folder, tmp_path: Path) -> None:
    with folder.in_use(), pytest.raises(InputError, match="one command at a time"), Folder(folder.path).in_use():
        pass


def test_another_project_under_the_same_id(studio: Studio, folder: Folder, title: str) -> None:
    campaign(studio, folder, title, judgements(2))
    plan = folder.need_plan()
    folder.write_plan(
        dataclasses.replace(plan, projects=(dataclasses.replace(plan.projects[0], title="Something else"),))
    )
    with pytest.raises(InputError, match="a project titled"):
        fetch(folder, always(studio))
