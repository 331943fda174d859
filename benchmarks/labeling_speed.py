"""Seconds to push 5,000 samples with scores and to pull 5,000 annotations, ours beside bare SDK calls doing the same.

    .venv/bin/python benchmarks/labeling_speed.py [--samples 5000] [--runs 5]

Interleaved runs on a local Label Studio of its own; prints medians and ranges. The bare calls import in chunks of 500
with the scores inline and export everything once: no listing, no twin check, no configuration check, no counts. The
annotations that are pulled were imported with their tasks, since making 5,000 of them one by one takes a quarter of
an hour.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from labeling import server
from labeling.campaign import find_or_make_project, judgement_tasks, plan_tasks, push_all
from labeling.fetching import check_config, fetch
from labeling.folder import Folder, Task
from labeling.screens import SENTIMENT, label_config
from labeling.server_raters import result_of
from labeling.studio import Studio
from rlhf.foundation.records import Sample

TEXT = "thou art merry and the night is kind to lovers under the old moon of winter; " * 3


def make_tasks(count: int) -> list[Task]:
    """Tasks of forty words with priorities."""
    samples = [Sample(f"u{i:05d}", "", f"{TEXT}{i}", "m") for i in range(count)]
    tasks = judgement_tasks(samples)[0]
    return [dataclasses.replace(task, priority=(i * 7919 % count) / count) for i, task in enumerate(tasks)]


def timed(work: Callable[[], Any]) -> float:
    """Wall-clock seconds."""
    started = time.monotonic()
    work()
    return time.monotonic() - started


def ours_push(studio: Studio, folder: Path, tasks: list[Task]) -> None:
    """Through the command's own functions, the folder's files included."""
    folder.mkdir()
    plan, joined = plan_tasks(Folder(folder), SENTIMENT, f"Ours {uuid.uuid4().hex[:8]}", tasks)
    push_all(Folder(folder), plan, joined, [""], lambda _: studio, check=check_config, scores_version="order-1")


def bare_push(sdk: Any, tasks: list[Task]) -> None:
    """SDK calls alone."""
    project = sdk.projects.create(
        title=f"Bare {uuid.uuid4().hex[:8]}",
        label_config=label_config(SENTIMENT, shows_prompt=False),
        sampling="Uncertainty sampling",
    )
    for start in range(0, len(tasks), 500):
        rows = [
            {
                "data": {"uid": task.uid, "text": task.text},
                "predictions": [{"result": [], "score": task.priority, "model_version": "order-1"}],
            }
            for task in tasks[start : start + 500]
        ]
        sdk.projects.import_tasks(project.id, request=rows, return_task_ids=True)
    sdk.projects.update(project.id, model_version="order-1")


def annotated_folder(studio: Studio, path: Path, tasks: list[Task]) -> int:
    """A folder whose project holds every task with one annotation."""
    path.mkdir()
    folder = Folder(path)
    plan, joined = plan_tasks(folder, SENTIMENT, f"Pull {uuid.uuid4().hex[:8]}", tasks)
    project = find_or_make_project(studio, plan, "", by_priority=False)
    folder.write_plan(dataclasses.replace(plan, projects=(project,)))
    for start in range(0, len(joined), 500):
        studio.import_tasks(
            project.id,
            [
                {
                    "data": task.data(SENTIMENT, shows_prompt=False),
                    "annotations": [{"result": result_of(SENTIMENT, "Positive"), "lead_time": 2.0}],
                }
                for task in joined[start : start + 500]
            ],
        )
    return project.id


def bare_pull(sdk: Any, project: int, path: Path) -> None:
    """One export of everything, parsed and written."""
    raw = b"".join(sdk.projects.exports.download_sync(project, export_type="JSON", download_all_tasks=False))
    rows = [
        {"uid": item["data"]["uid"], "label": a["result"][0]["value"]["choices"][0]}
        for item in json.loads(raw)
        for a in item["annotations"]
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        work, venv = Path(name), server.cache_directory()
        server.install(venv, print)
        running = server.start(work / "server", venv=venv, say=print)
        try:
            key = server.read_accounts(work / "server")["admin"].token
            studio = Studio(running.url, key)
            from label_studio_sdk import LabelStudio

            sdk: Any = LabelStudio(base_url=running.url, api_key=key)
            tasks = make_tasks(options.samples)
            project = annotated_folder(studio, work / "pull", tasks)
            for number in range(options.runs):
                folder = Folder(work / "pull")
                for what, job in (
                    ("push, ours", lambda n=number: ours_push(studio, work / f"push-{n}", tasks)),
                    ("push, bare SDK", lambda: bare_push(sdk, tasks)),
                    ("pull, ours", lambda f=folder: fetch(f, lambda _: studio, full=True)),
                    ("pull, bare SDK", lambda: bare_pull(sdk, project, work / "bare.jsonl")),
                    ("pull again, nothing changed, ours", lambda f=folder: fetch(f, lambda _: studio)),
                ):
                    seconds.setdefault(what, []).append(timed(job))
                print(f"  run {number + 1}: " + "; ".join(f"{k} {v[-1]:.1f} s" for k, v in seconds.items()), flush=True)
        finally:
            server.stop(work / "server")
    for what, values in seconds.items():
        print(
            f"{what}: median {statistics.median(values):.1f} s ({min(values):.1f} to {max(values):.1f}, "
            f"n={len(values)} runs)"
        )
    both = statistics.median(a + b for a, b in zip(seconds["push, ours"], seconds["pull, ours"], strict=True))
    bare = statistics.median(a + b for a, b in zip(seconds["push, bare SDK"], seconds["pull, bare SDK"], strict=True))
    print(f"push and pull of {options.samples}: ours {both:.1f} s, bare SDK {bare:.1f} s (medians)")


if __name__ == "__main__":
    main()
