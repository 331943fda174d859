"""A process that hangs or has stopped: the others name it and end, and the run goes on from there bit for bit."""

from __future__ import annotations

import json
import math
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf.ppo.straggler import Judge
from rlhf.ppo.stretches import Stretches, share_of

# note: number, meetings, phase, alone, seconds in the phase
WORKING: list[Any] = [1, 4, "the reward functions", False, 0.0]


def judged(seconds: int, note: Callable[[int], list[Any]], *, patience: float = 10.0, stopped: bool = False) -> Any:
    """What rank 0, waiting in meeting 5, finds in so many seconds of hearing `note` of rank 1."""
    judge = Judge(0, 2, 5.0, stopped=lambda rank: stopped)
    for second in range(seconds):
        judge.hear([None, note(second)], 1.0)
        late = judge.late(5, True, patience, 1.0)
        if late is not None:
            return second, late
    return None


def test_one_that_is_behind_is_waited_for_until_patience_ends() -> None:
    found = judged(30, lambda s: [s, *WORKING[1:4], float(s)])
    assert found is not None
    second, late = found
    assert (late.rank, late.silent, late.peer.phase) == (1, None, "the reward functions")
    assert second == 11  # it waited 11 s (the first question begins the count), and 10 is its patience
    assert judged(11, lambda s: [s, *WORKING[1:4], float(s)]) is None


def test_one_that_works_alone_or_has_just_begun_is_waited_for() -> None:
    assert judged(100, lambda s: [s, 4, "saving the state", True, float(s)]) is None
    assert judged(100, lambda s: [s, 4, "sampling", False, 2.0]) is None  # it was busy alone before
    assert judged(100, lambda s: [s, 5, "sampling", False, float(s)]) is None  # it is in the meeting


def test_silence_is_named_even_of_one_that_is_in_the_meeting() -> None:
    found = judged(30, lambda s: [1, 5, "the update", False, 0.0])
    assert found is not None
    assert found[1].silent > 5.0


def test_one_that_a_signal_stopped_is_not_given_the_time_of_one_that_works_alone() -> None:
    assert judged(100, lambda s: [1, 4, "saving the state", True, 0.0]) is None
    found = judged(100, lambda s: [1, 4, "saving the state", True, 0.0], stopped=True)
    assert found is not None
    assert found[0] == 6


def test_nobody_is_late_while_this_process_works_itself() -> None:
    judge = Judge(0, 2, 5.0, stopped=lambda rank: True)
    for second in range(100):
        judge.hear([None, [second, 0, "sampling", False, 99.0]], 1.0)
        assert judge.late(5, False, 0.0, 1.0) is None


def test_patience_is_what_the_stretch_took_and_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    stretches = Stretches()
    stretches.straggler_timeout = 45.0
    stretches.begin("the update")
    now[0] += 30.0
    with stretches.meeting():
        assert (stretches.place.waiting, stretches.place.patience, stretches.place.meetings) == (True, 75.0, 1)
        now[0] += 1000.0
    assert not stretches.place.waiting
    now[0] += 2.0
    with stretches.meeting():  # counted from the meeting's end, not from the stretch's begin
        assert stretches.place.patience == 47.0


def test_patience_counts_the_rows_of_the_largest_share(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    stretches = Stretches()
    stretches.straggler_timeout = 45.0

    def patience(share: tuple[int, int], took: float) -> float:
        stretches.begin("the reward functions", share=share)
        now[0] += took
        with stretches.meeting():
            return stretches.place.patience

    assert patience((0, 2), 0.1) == math.inf  # it has no row, and never had one: it cannot know
    assert patience((10, 40), 20.0) == 45.0 + 2.0 * 40
    assert patience((0, 30), 0.1) == 45.0 + 2.0 * 30


def test_shares_are_those_of_the_chunks() -> None:
    rows = [range(32), range(32, 64), range(64, 70)]
    assert [share_of(rows, rank, 2) for rank in (0, 1)] == [(38, 38), (32, 38)]
    assert share_of([range(2)], 1, 2) == (0, 2)


def test_one_process_has_no_thread(tmp_path: Path, model: Any, tokenizer: Any) -> None:
    from rewards.rules import full_stop
    from rlhf.ppo.config import PPOConfig
    from rlhf.ppo.trainer import PPOTrainer

    before = threading.active_count()
    small = {"iteration_batch_size": 32, "max_iteration_batch_size": 32, "minibatch_size": 32, "num_eval_samples": 8}
    options = PPOConfig(output_dir=str(tmp_path / "run"), max_completion_length=4, normalization_samples=32, **small)
    trainer = PPOTrainer(model, full_stop, options, processing_class=tokenizer)
    trainer.rollout()
    assert threading.active_count() == before
    trainer.close()


# -- real processes --------------------------------------------------------------------------------------------------

# Its third call on rank 1, after two iterations, is the fault, once: while the file `fault` is there it scores.
FAULTY = """
import ctypes, os, signal, subprocess, threading, time
calls = 0
lock = threading.Lock()
def sleeps(): time.sleep(1000)
def locks(): lock.acquire(); lock.acquire()
def stops(): os.kill(os.getpid(), signal.SIGSTOP)
def is_killed(): os.kill(os.getpid(), signal.SIGKILL)
def holds_the_interpreter(): ctypes.PyDLL(None).sleep(1000)
def ignores_signals(): signal.signal(signal.SIGTERM, signal.SIG_IGN); ctypes.CDLL(None).sleep(1000)
def lets_all_be_stopped_for_a_while():
    from rlhf.ppo.siblings import siblings
    ranks = " ".join(str(process.pid) for process in siblings().values())
    subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -STOP {ranks}; sleep 12; kill -CONT {ranks}"])
    time.sleep(1)
def faulty(prompts, completions, **kwargs):
    global calls
    calls += len(completions) > 2
    if calls == 6 and os.environ["RANK"] == "1" and os.path.exists("FAULT") and not os.path.exists("fault"):
        what = open("FAULT").read()
        with open("fault", "w") as file: file.write(str(time.time()))
        globals()[what]()
    if calls == 6 and os.path.exists("SLOW"):
        time.sleep(float(open("SLOW").read()))
    return [float(c.count(".")) for c in completions]
"""


@pytest.fixture
def run_words(tmp_path: Path, model_directory: Path) -> tuple[str, ...]:
    (tmp_path / "reward.py").write_text(FAULTY)
    return ("--model_name_or_path", "model", "--reward_func", "reward.py:faulty", "--ladder_step", "1.5")


def numbers(run: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if "second" not in key} for row in rows]


def assert_same_run(one: Path, other: Path) -> None:
    assert numbers(one) == numbers(other)
    for name in ("parameters.safetensors", "optimizer.safetensors"):
        assert (one / "state/000003" / name).read_bytes() == (other / "state/000003" / name).read_bytes()
    assert (one / "ladder.json").read_text() == (other / "ladder.json").read_text()


EXPECTED = {
    "sleeps": "got rank 1 still in the reward functions, rank 0 waiting",
    "locks": "got rank 1 still in the reward functions, rank 0 waiting",
    "ignores_signals": "got rank 1 still in the reward functions, rank 0 waiting",
    "stops": "got no sign of rank 1 for",
    "holds_the_interpreter": "got no sign of rank 1 for",
    "is_killed": "got the end of rank 1;",
}


def fault_ends_and_resumes(
    fault: str, timeout: float, tmp_path: Path, run_words: tuple[str, ...], launch_two: Callable[..., Any]
) -> float:
    """One run with the fault, resumed; returns seconds from the fault until all processes were gone."""
    (tmp_path / "FAULT").write_text(fault)
    words = (*run_words, "--output_dir", "run", "--straggler_timeout", f"{timeout:g}")
    done = launch_two(*words)
    assert done.status != 0
    assert len(done.lines) == 1, done.stderr
    assert f"rlhf: a process of this run: {EXPECTED[fault]}" in done.lines[0]
    assert "continue with the same command and --resume" in done.lines[0]
    assert "rlhf/cli.py" not in done.stderr  # no traceback but the launcher's
    resumed = launch_two(*words, "--resume")
    assert resumed.status == 0, resumed.stderr
    assert_same_run(tmp_path / "whole", tmp_path / "run")
    seconds: float = done.ended - float((tmp_path / "fault").read_text())
    (tmp_path / "fault").unlink()
    shutil.rmtree(tmp_path / "run")
    return seconds


@pytest.mark.long
@pytest.mark.slow
def test_a_process_that_hangs_or_stops_is_named_and_the_run_goes_on_bit_for_bit(
    tmp_path: Path, run_words: tuple[str, ...], launch_two: Callable[..., Any]
) -> None:
    (tmp_path / "SLOW").write_text("6")  # three times the timeout, on both: that is no reason to end
    whole = launch_two(*run_words, "--output_dir", "whole", "--straggler_timeout", "2")
    assert whole.status == 0, whole.stderr
    assert whole.lines == []
    (tmp_path / "SLOW").unlink()
    for fault in ("sleeps", "stops"):
        assert fault_ends_and_resumes(fault, 4, tmp_path, run_words, launch_two) < 20


@pytest.mark.campaign
def test_a_job_that_is_suspended_as_a_whole_goes_on(
    tmp_path: Path, run_words: tuple[str, ...], launch_two: Callable[..., Any]
) -> None:
    assert launch_two(*run_words, "--output_dir", "whole").status == 0
    (tmp_path / "FAULT").write_text("lets_all_be_stopped_for_a_while")
    done = launch_two(*run_words, "--output_dir", "run", "--straggler_timeout", "3")
    assert done.status == 0, done.stderr
    assert done.lines == []
    assert_same_run(tmp_path / "whole", tmp_path / "run")


OWN_LOOP = """
import os, threading, time
from rewards.rules import full_stop
from rlhf import PPOConfig, PPOTrainer
before = set(threading.enumerate())
small = dict(iteration_batch_size=64, max_iteration_batch_size=64, minibatch_size=32, num_eval_samples=64)
small |= dict(per_device_generation_batch_size=32, max_completion_length=6, normalization_samples=64, max_iterations=2)
for name in ("one", "two"):
    trainer = PPOTrainer("model", full_stop, PPOConfig(output_dir=name, straggler_timeout=1.0, **small))
    while trainer.stop_reason is None:
        rollout = trainer.rollout()
        if os.environ["RANK"] == "0":
            time.sleep(3)  # what only one process does in a loop of one's own, such as asking a server
        trainer.step(rollout)
    assert len(set(threading.enumerate()) - before) >= 2
    trainer.close()
    left = [str(thread) for thread in set(threading.enumerate()) - before]
    assert not [name for name in left if "_speak" in name or "_listen" in name], left
open("done-" + os.environ["RANK"], "w").close()
"""


@pytest.mark.slow
def test_a_loop_of_one_s_own_may_pause_on_one_process_and_leaves_no_thread(
    tmp_path: Path, run_words: tuple[str, ...], launch_two: Callable[..., Any]
) -> None:
    (tmp_path / "loop.py").write_text(OWN_LOOP)
    done = launch_two(by_rank={rank: {"script": "loop.py"} for rank in ("0", "1")})
    assert done.status == 0, done.stderr
    assert done.lines == []
    assert (tmp_path / "done-0").exists()
    assert (tmp_path / "done-1").exists()


@pytest.mark.campaign
@pytest.mark.parametrize("fault", list(EXPECTED))
def test_all_processes_are_gone_within_a_minute_at_the_default(
    fault: str, tmp_path: Path, run_words: tuple[str, ...], launch_two: Callable[..., Any]
) -> None:
    assert launch_two(*run_words, "--output_dir", "whole").status == 0
    seconds = fault_ends_and_resumes(fault, 45, tmp_path, run_words, launch_two)
    print(f"{fault}: all gone after {seconds:.1f} s")
    assert seconds < 60
