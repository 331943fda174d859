"""What is made once, what is made again, what is told: on stages that do nothing. One real study at the end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from rlhf.foundation.errors import InputError
from rlhf.foundation.records import Sample, read_samples, write_records
from rlhf.studies import stages
from rlhf.studies import study as module
from rlhf.studies.config import StudyConfig
from rlhf.studies.plan import Stage, plan
from rlhf.studies.running import Record, run_stages


def run(options: dict[str, Any]) -> tuple[Path, list[Stage], Record]:
    config = StudyConfig(**options)
    root, every = Path(config.output_dir), plan(config)
    record = Record.of(root / "study.json", {})
    root.mkdir(exist_ok=True)
    run_stages(root, every, record, jobs=1, quiet=True)
    return root, every, record


def test_what_cells_share_is_made_once(options: dict[str, Any], done: list[str]) -> None:
    run(options)
    # 2 noises x 2 seeds are 4 label sets and reward models; beta changes neither: 8 cells.
    assert Counter(done) == {"model": 1, "pool": 1, "labels": 4, "reward": 4, "cell": 8}
    assert done == sorted(done, key=["model", "pool", "labels", "reward", "cell"].index)


def test_the_watched_reward_is_of_other_labels_and_has_no_weight(options: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("A good day.")  # a text of one's own is judged by the lexicon
    options = {**options, "corpus": str(tmp_path / "corpus.txt")}
    every = plan(StudyConfig(**options, watch=True))
    assert Counter(stage.kind for stage in every) == {"model": 1, "pool": 1, "labels": 8, "reward": 8, "cell": 8}
    plain = {stage.place for stage in plan(StudyConfig(**options)) if stage.kind != "cell"}
    assert plain < {stage.place for stage in every}  # a study that was made without goes on with what it has
    cell = next(stage for stage in every if stage.kind == "cell")
    assert cell.options["reward_weights"] == [1.0, 0.0]
    texts = [f"A {word} day {i}." for i in range(50) for word in ("good", "sad")]
    pool = cell.needs["reward"].needs["pool"]
    rows = [Sample(f"s{i}", "", text, "model") for i, text in enumerate(texts)]
    (tmp_path / pool.place).mkdir(parents=True)
    write_records(tmp_path / pool.place / "samples.jsonl", rows)
    of = {}
    for role in ("reward", "watched"):
        stages.do(tmp_path, (labels := cell.needs[role].needs["labels"]))
        of[role] = {row.uid for row in read_samples(tmp_path / labels.place / "samples.jsonl")}
    assert [len(own) for own in of.values()] == [40, 40]
    assert not of["reward"] & of["watched"]
    with pytest.raises(InputError, match="expected 20 to half of --num_samples with --watch, 50"):
        plan(StudyConfig(**{**options, "fixed": ["num_labels=60"]}, watch=True))


def test_what_raters_misread_is_a_factor(options: dict[str, Any]) -> None:
    options = {**options, "grid": ["misread=woe|grief,joy"], "seeds": [0]}
    labels = [stage for stage in plan(StudyConfig(**options)) if stage.kind == "labels"]
    assert [stage.options["misread"] for stage in labels] == ["woe|grief", "joy"]
    without = [s.place for s in plan(StudyConfig(**{**options, "grid": []})) if s.kind == "labels"]
    assert without[0] not in {stage.place for stage in labels}


def test_a_number_of_a_grid_is_one_however_it_is_written(options: dict[str, Any]) -> None:
    options = {**options, "grid": ["ppo.learning_rate=5e-4,1.5e-3"], "seeds": [0]}
    cells = [stage for stage in plan(StudyConfig(**options)) if stage.kind == "cell"]
    assert [cell.options["learning_rate"] for cell in cells] == [5e-4, 1.5e-3]
    for line in ("ppo.max_iterations=010,20", "noise=2026-99-99"):  # 8 by YAML 1.1; a date that is none
        with pytest.raises(InputError, match="plain values"):
            plan(StudyConfig(**{**options, "grid": [line]}))


def test_a_finished_study_does_nothing_and_a_changed_option_only_its_own(
    options: dict[str, Any], done: list[str]
) -> None:
    root, every, _ = run(options)
    done.clear()
    run(options)
    assert done == []
    run({**options, "grid": ["noise=0,0.25", "ppo.beta=0,0.2"]})
    assert done == ["cell"] * 4  # those of the new beta
    done.clear()
    run({**options, "seeds": [0, 1, 2]})
    assert Counter(done) == {"labels": 2, "reward": 2, "cell": 4}
    assert all(stages.is_done(root, stage) for stage in every)  # the first ones stand as they were


def test_a_failed_stage_is_told_its_cells_passed_over_and_done_alone_next_time(
    options: dict[str, Any], done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good, (first, *_) = stages.DEEDS["reward"], [s for s in plan(StudyConfig(**options)) if s.kind == "reward"]

    def fails(root: Path, stage: Stage, quiet: bool) -> None:
        if stage == first:
            raise InputError("labels", got="none", expected="some", fix="label more")
        good(root, stage, quiet)

    monkeypatch.setitem(stages.DEEDS, "reward", fails)
    _, _, record = run(options)
    assert Counter(done) == {"model": 1, "pool": 1, "labels": 4, "reward": 3, "cell": 6}
    assert record.failed.pop(first.place).startswith("labels: got none")
    assert list(record.failed.values()) == ["what it needs was not made"] * 2
    monkeypatch.setitem(stages.DEEDS, "reward", good)
    done.clear()
    _, _, record = run(options)
    assert done == ["reward", "cell", "cell"]
    assert record.failed == {}


def test_an_interrupted_cell_leaves_the_others(
    options: dict[str, Any], done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = stages.DEEDS["cell"]

    def stops(root: Path, stage: Stage, quiet: bool) -> None:
        if done.count("cell") == 3:
            raise KeyboardInterrupt
        good(root, stage, quiet)

    monkeypatch.setitem(stages.DEEDS, "cell", stops)
    with pytest.raises(KeyboardInterrupt):
        run(options)
    monkeypatch.setitem(stages.DEEDS, "cell", good)
    done.clear()
    run(options)
    assert done == ["cell"] * 5


AT_WORK = """
import os, signal, sys, time
from rlhf.studies.running import workers

def work(folder):
    open(f"{folder}/{os.getpid()}", "w").close()
    time.sleep(120)

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as the command line has it
    with workers(2) as pool:
        for future in [pool.submit(work, sys.argv[1]) for _ in range(2)]:
            future.result()
"""


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_a_study_that_is_stopped(tmp_path: Path, sent: signal.Signals) -> None:
    (tmp_path / "workers").mkdir()
    (tmp_path / "study.py").write_text(AT_WORK)
    command = [sys.executable, str(tmp_path / "study.py"), str(tmp_path / "workers")]
    study = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(begun := list((tmp_path / "workers").iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    at_work = [psutil.Process(int(worker.name)) for worker in begun]
    study.send_signal(sent)
    _, alive = psutil.wait_procs([psutil.Process(study.pid), *at_work], timeout=20)
    for process in alive:
        process.kill()
    study.wait()
    assert len(at_work) == 2
    assert not alive


def test_the_time_left_is_of_the_study_s_own_seconds(options: dict[str, Any], tmp_path: Path) -> None:
    cells = [stage for stage in plan(StudyConfig(**options)) if stage.kind == "cell"]
    record = Record(tmp_path / "study.json", {}, {cells[0].place: 10.0, cells[1].place: 30.0})
    assert record.left(cells[2:], 2) == 6 * 20 / 2


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"grid": ["colour=red"]}, "--grid: got colour=red"),
        ({"grid": ["noise=0,0"]}, "expected different plain values"),
        ({"grid": ["noise=0", "noise=0.1"]}, "expected each name once"),
        ({"grid": ["noise=0,1.5"]}, "noise: got 1.5"),
        ({"grid": ["num_labels=2000"], "fixed": []}, "num_labels: got 2000; expected 20 to --num_samples, 100"),
        ({"grid": ["misread=("]}, "misread: got '('"),
        ({"grid": ["misread=7"]}, "misread: got 7"),
        ({"grid": ["ppo.beat=1"]}, "beat"),
        ({"grid": ["ppo.beta=-1"]}, "--beta: got -1"),
        ({"fixed": ["noise=0,1"], "grid": []}, "--fixed: got noise=0,1; expected one value"),
        ({"corpus": "./nope.txt"}, "--corpus: got ./nope.txt, no such file"),
        ({"seeds": [1, 1]}, "--seeds"),
        ({"jobs": 0}, "--jobs"),
        ({"group": ["seed"]}, "--group"),
    ],
)
def test_bad_studies_are_refused_before_anything_is_made(
    options: dict[str, Any], changed: dict[str, Any], line: str
) -> None:
    with pytest.raises(InputError) as caught:
        plan(StudyConfig(**{**options, **changed}))
    assert line in str(caught.value)


def test_a_dry_run_prints_cells_and_cost_and_makes_nothing(options: dict[str, Any]) -> None:
    found = module.study(**options, dry_run=True)
    told = found.summary()
    assert "noise-0.25_ppo.beta-0.1_seed-1" in told
    assert "to do: 1 model, 1 pool, 4 labels, 4 reward, 8 cell; about" in told
    assert not found.root.exists()


def test_another_directory_is_refused(options: dict[str, Any], done: list[str], tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty and without a study"):
        module.study(**options)
    assert done == []


@pytest.mark.long
def test_a_real_study_has_its_tables_page_and_figures(tmp_path: Path) -> None:
    fixed = ["noise=0.25", "model.max_steps=60", "model.hidden_size=32", "reward.num_train_epochs=1"]
    ppo = {"max_iterations": 4, "iteration_batch_size": 64, "max_iteration_batch_size": 64, "num_eval_samples": 32}
    ppo |= {"normalization_samples": 64, "max_completion_length": 16, "warmup_steps": 0}
    fixed += [f"ppo.{name}={value}" for name, value in (ppo | {"ladder_step": 0.1, "kl_budget": 3}).items()]
    options = {"output_dir": str(tmp_path / "study"), "grid": ["num_labels=40,60"], "fixed": fixed, "num_samples": 80}
    found = module.study(**options, seeds=[0], jobs=2, quiet=True)
    assert found.failed == {}
    cells, rungs = found.cells, found.rungs
    assert list(cells["num_labels"]) == [40, 60]
    assert set(cells["made"]) == {True}
    assert set(rungs["cell"]) == set(cells["cell"])
    units = json.loads((found.root / "tables.json").read_text())
    assert set(units) == {*cells.columns, *rungs.columns}
    pools = {len(read_samples(path)) for path in found.root.glob("shared/pool-*/unlabelled.jsonl")}
    behind = {json.loads(path.read_text())["best_of_n_pool"] for path in found.root.glob("cells/*/evaluation.json")}
    assert behind == pools == {64}  # one pool of the original for all cells, not each cell's own 32
    assert "Gold along" in (found.root / "report.html").read_text()
    assert {path.suffix for path in (found.root / "figures").iterdir()} == {".svg", ".pdf", ".json"}
    before = (found.root / "cells.csv").read_bytes()
    assert module.study(**options, seeds=[0], quiet=True).failed == {}
    assert (found.root / "cells.csv").read_bytes() == before


def test_an_option_that_a_later_version_adds_makes_nothing_anew(options: dict[str, Any]) -> None:
    for stage in plan(StudyConfig(**options)):
        later = Stage(stage.kind, stage.options, {**stage.resolved, "another": 1}, stage.needs, stage.name)
        assert later.place == stage.place
        assert Stage(stage.kind, {**stage.options, "seed": 9}, {}, stage.needs, stage.name).place != stage.place


def test_another_text_under_the_same_name_is_another_model(options: dict[str, Any], tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("One.\n\nTwo.")
    before = {stage.place for stage in plan(StudyConfig(**options, corpus=str(corpus)))}
    corpus.write_text("One.\n\nThree.")
    assert before.isdisjoint(stage.place for stage in plan(StudyConfig(**options, corpus=str(corpus))))
