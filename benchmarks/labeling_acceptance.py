"""The long acceptance runs of labelling against a real Label Studio: prints each figure.

    .venv/bin/python benchmarks/labeling_acceptance.py [kills] [late] [gateway] [pulls] [raters] [--seeds 5]

kills: 100 samples in chunks of 7, SIGKILL at 10 random moments, at least 5 between the first and the last import.
late: SIGKILL while an import waits in a proxy, which forwards it after the death.
gateway: every second import is answered 502 after the commit.
pulls: SIGKILL at 5 random moments of a pull, then an incremental pull after 7 changed, 3 deleted and 5 new annotations
        and 2 deleted tasks: the same file as a full pull.
raters: three simulated raters wrong on 15, 15 and 20 % of labels, as users of the server; agreement and confusions
        equal those of the local truth; pooled accuracy against the best single rater's; then 5, 30 and 30 %.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from labeling import server
from labeling.by_rule import simulate_labels
from labeling.campaign import judgement_tasks, plan_tasks, push_all
from labeling.fetching import check_config, fetch
from labeling.folder import Folder
from labeling.pooling import pool
from labeling.rater_agreement import label_alpha, rater_counts
from labeling.screens import SENTIMENT
from labeling.server_raters import annotate_as, result_of, simulated_judgements
from labeling.studio import Studio
from rlhf.foundation.records import LABELS, Label, LabelName, Sample, read_labels, write_records
from tests.labeling.faulty_proxy import FaultyProxy, on_imports

SAMPLES = 100
RATERS = ("ana", "ben", "eva")


class Run:
    """A server of its own for the run."""

    def __init__(self, work: Path) -> None:
        self.work, self.directory = work, work / "server"
        venv = server.cache_directory()
        server.install(venv, print)
        self.running = server.start(self.directory, venv=venv, raters=RATERS, say=print)
        self.accounts = server.read_accounts(self.directory)
        write_records(work / "samples.jsonl", [Sample(f"u{i}", "", f"text {i}", "m") for i in range(SAMPLES)])

    def connect(self, rater: str = "") -> Studio:
        """A connection as a rater or as the admin."""
        return Studio(self.running.url, self.accounts[rater or "admin"].token)

    def push(self, folder: Path, title: str, url: str) -> subprocess.Popen[bytes]:
        """`rlhf label push` as a process."""
        words = ["--samples", str(self.work / "samples.jsonl"), "--output_dir", str(folder), "--title", title]
        return self.command(["push", *words, "--chunk", "7"], url)

    def command(self, words: list[str], url: str) -> subprocess.Popen[bytes]:
        """`rlhf label ...` as a process, as the admin."""
        env = {**os.environ, "LABEL_STUDIO_URL": url, "LABEL_STUDIO_API_KEY": self.accounts["admin"].token}
        return subprocess.Popen(
            [sys.executable, "-m", "rlhf.cli", "label", *words, "--quiet"],
            env=env,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def check(self, folder: Path) -> str:
        """Whether every uid is there once."""
        project = Folder(folder).need_plan().projects[0].id
        uids = Counter(task.uid for task in self.connect().list_tasks(project))
        once = uids == Counter(f"u{i}" for i in range(SAMPLES))
        return f"{uids.total()} tasks, each uid once: {once}"


def kills(run: Run) -> None:
    """SIGKILL at random moments."""
    proxy = FaultyProxy(run.running.url, lambda *_: "pass")
    folder, title, chance = run.work / "kills", f"Kills {uuid.uuid4().hex[:8]}", random.Random(1)
    between = 0
    for number in range(10):
        process = run.push(folder, title, proxy.url)
        before = len(proxy.times)
        # Half of the kills wait for this run's first import; the others come at any moment from the start on.
        if number % 2 == 0:
            while len(proxy.times) == before and process.poll() is None:
                time.sleep(0.01)
            time.sleep(chance.uniform(0.0, 0.25))
        else:
            time.sleep(chance.uniform(0.5, 4.0))
        alive = process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(0.5)
        plan = Folder(folder).read_plan()
        projects = plan.projects if plan else ()
        there = len(run.connect().list_tasks(projects[0].id)) if projects else 0
        if alive and len(proxy.times) > 0 and there < SAMPLES:
            between += 1
        print(f"  kill {number + 1}: {there} tasks there, {len(proxy.times)} imports sent so far, alive: {alive}")
    last = run.push(folder, title, proxy.url)
    last.communicate()
    print(
        f"kills: 10, of which {between} between the first and the last import; exit {last.returncode}; "
        f"{run.check(folder)}"
    )
    proxy.close()


def late(run: Run) -> None:
    """SIGKILL while the server is still to commit."""
    proxy = FaultyProxy(run.running.url, on_imports("delay", lambda n: n == 5), delay=5.0)
    folder, title = run.work / "late", f"Late {uuid.uuid4().hex[:8]}"
    process = run.push(folder, title, proxy.url)
    while len(proxy.times) < 5:
        time.sleep(0.02)
    process.kill()
    process.wait()
    last = run.push(folder, title, run.running.url)
    out, _ = last.communicate()
    print(
        f"late: killed with an import on its way; exit {last.returncode}; {out.decode().splitlines()[0]}; "
        f"{run.check(folder)}"
    )
    proxy.close()


def gateway(run: Run) -> None:
    """502 after the commit on every second import."""
    proxy = FaultyProxy(run.running.url, on_imports("502 after", lambda n: n % 2 == 0))
    folder = run.work / "gateway"
    last = run.push(folder, f"Gateway {uuid.uuid4().hex[:8]}", proxy.url)
    out, _ = last.communicate()
    print(f"gateway: exit {last.returncode}; {out.decode().splitlines()[0]}; {run.check(folder)}")
    proxy.close()


def pulls(run: Run) -> None:
    """SIGKILL of pulls, and what an incremental one makes of every kind of change."""
    folder, chance = Folder(run.work / "pulls"), random.Random(2)
    run.push(folder.path, f"Pulls {uuid.uuid4().hex[:8]}", run.running.url).communicate()
    project, studio = folder.need_plan().projects[0].id, run.connect()
    task = {one.uid: one.id for one in studio.list_tasks(project)}
    names = sorted(name for name in task if name)
    made = {name: studio.annotate(task[name], result_of(SENTIMENT, "Positive")) for name in names[:80]}
    file = folder.path / "labels.jsonl"
    words = ["pull", "--output_dir", str(folder.path)]
    proxy = FaultyProxy(run.running.url, lambda *_: "pass")
    reached, torn = 0, 0
    for _ in range(5):
        process, before = run.command(words, proxy.url), sum(proxy.counts.values())
        while sum(proxy.counts.values()) == before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 0.6))
        reached += process.poll() is None
        process.kill()
        process.wait()
        torn += file.exists() and len(read_labels(file)) != 80
    again = run.command(words, proxy.url)
    again.communicate()
    print(
        f"pulls: 5 kills, {reached} before the end, torn files: {torn}; rerun: exit {again.returncode}, "
        f"{len(read_labels(file))} labels of 80"
    )
    proxy.close()
    api = studio.annotations_api()
    for name in names[:7]:
        api.update(made[name], result=result_of(SENTIMENT, "Negative"))
    for name in names[7:10]:
        api.delete(made[name])
    for name in names[80:85]:
        studio.annotate(task[name], result_of(SENTIMENT, "Neutral"))
    for name in (names[10], names[99]):
        studio.delete_task(task[name])
    second = fetch(folder, lambda _: studio)
    incremental = file.read_bytes()
    fetch(folder, lambda _: studio, full=True)
    print(
        f"pulls: incremental fetched {second.fetched_tasks} of 98 tasks, {len(second.labels)} labels; "
        f"same file as a full pull: {file.read_bytes() == incremental}"
    )


def judge(completion: str, prompt: str = "") -> LabelName:
    """A planted truth: three classes in turn."""
    return LABELS[int(completion.split()[-1]) % 3]


def accuracies(labels: list[Label]) -> tuple[float, float, float]:
    """Of Dawid-Skene, of the plain share, and of the best single rater, against the planted truth."""
    truth = {label.uid: judge(label.completion) for label in labels}

    def right(verdicts: dict[str, str]) -> float:
        return sum(verdicts[uid] == name for uid, name in truth.items()) / len(truth)

    singles = [right({x.uid: x.label for x in labels if x.annotator == name}) for name in RATERS]
    return right(pool(labels).verdicts), right(pool(labels, "share").verdicts), max(singles)


def local_labels(noise: tuple[float, ...], seed: int, count: int) -> list[Label]:
    """What the raters answer, without a server."""
    samples = [Sample(f"u{i:04d}", "", f"text {i}", "m") for i in range(count)]
    return [
        row
        for name, share in zip(RATERS, noise, strict=True)
        for row in simulate_labels(samples, judge, annotator=name, noise=share, seed=seed)
    ]


def raters(run: Run, seeds: int, count: int) -> None:
    """Simulated raters through the server."""
    noise = (0.15, 0.15, 0.20)
    better, table = 0, []
    for seed in range(seeds):
        folder = Folder(run.work / f"raters-{seed}")
        folder.path.mkdir()
        samples = [Sample(f"u{i:04d}", "", f"text {i}", "m") for i in range(count)]
        plan, tasks = plan_tasks(folder, SENTIMENT, f"Raters {uuid.uuid4().hex[:8]}", judgement_tasks(samples)[0])
        push_all(folder, plan, tasks, RATERS, run.connect, check=check_config)
        by_uid = {task.uid: task for task in tasks}
        started = time.monotonic()
        for project, share in zip(folder.need_plan().projects, noise, strict=True):
            answers = simulated_judgements(by_uid, judge, annotator=project.rater, noise=share, seed=seed)
            annotate_as(run.connect(project.rater), project, plan, answers)
        seconds = time.monotonic() - started
        fetch(folder, lambda project: run.connect(project.rater))
        labels, local = read_labels(folder.path / "labels.jsonl"), local_labels(noise, seed, count)
        alpha = label_alpha(labels)
        equal = alpha == label_alpha(local) and [x.against_others for x in rater_counts(labels)] == [
            x.against_others for x in rater_counts(local)
        ]
        pooled, share_alone, best = accuracies(labels)
        better += pooled > best
        table.append((pooled, share_alone, best))
        print(
            f"  seed {seed}: {len(labels)} labels in {seconds:.0f} s; alpha {alpha.value:.3f} "
            f"({alpha.low:.3f} to {alpha.high:.3f}); equal to the local truth: {equal}; "
            f"pooled {pooled:.3f}, share {share_alone:.3f}, best rater {best:.3f}",
            flush=True,
        )
    means = [statistics.mean(column) for column in zip(*table, strict=True)]
    print(
        f"raters 15/15/20 %: pooled above the best rater on {better} of {seeds} seeds; "
        f"mean pooled {means[0]:.3f}, share {means[1]:.3f}, best rater {means[2]:.3f}"
    )
    hard = [accuracies(local_labels((0.05, 0.30, 0.30), seed, count)) for seed in range(seeds)]
    means = [statistics.mean(column) for column in zip(*hard, strict=True)]
    print(
        f"raters 5/30/30 % (the same labels without the server): mean pooled {means[0]:.3f}, "
        f"share {means[1]:.3f}, best rater {means[2]:.3f}"
    )


def main() -> None:
    """Run what was named, or everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help="kills, late, gateway, pulls, raters; default: all")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=300)
    options = parser.parse_args()
    chosen = options.what or ["kills", "late", "gateway", "pulls", "raters"]
    with tempfile.TemporaryDirectory() as name:
        run = Run(Path(name))
        try:
            if "kills" in chosen:
                kills(run)
            if "late" in chosen:
                late(run)
            if "gateway" in chosen:
                gateway(run)
            if "pulls" in chosen:
                pulls(run)
            if "raters" in chosen:
                raters(run, options.seeds, options.tasks)
        finally:
            server.stop(run.directory)


if __name__ == "__main__":
    main()
