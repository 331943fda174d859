"""Models cut over two processes (FSDP2 on gloo) give the run of one process; what is saved is whole."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from rlhf.foundation.errors import InputError
from rlhf.foundation.model_directory import load_causal_lm
from rlhf.ppo.lockstep import in_step
from rlhf.ppo.sharding import WholeCopy, own_part, require_known_plan, whole

from .conftest import without
from .test_processes import ROOT, launch

OPTIONS = shlex.split(
    "--iteration_batch_size 64 --max_iteration_batch_size 64 --minibatch_size 32 --per_device_generation_batch_size 16 "
    "--per_device_train_batch_size 8 --num_eval_samples 24 --normalization_samples 40 --learning_rate 1e-3 "
    "--kl_budget 30 --dtype float64"
)


def run(model: Path, output: Path, processes: int, *words: str) -> None:
    done = launch(
        model, output, processes=processes, reward="full_stop", extra=(*OPTIONS, *words), file="accelerate_fsdp2.yaml"
    )
    assert done.returncode == 0, done.stderr
    if processes > 1 and "--resume" not in words:
        assert json.loads((output / "run.json").read_text())["distributed_type"] == "FSDP"


def tensors_of(run: Path, name: str) -> dict[str, torch.Tensor]:
    latest = max((run / "state").glob("[0-9]*"))
    return load_file(latest / f"{name}.safetensors")


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def require_same(one: Path, two: Path, within: float = 1e-9) -> None:
    for name in ("parameters", "optimizer"):
        assert apart(tensors_of(one, name), tensors_of(two, name)) <= within
    rows = [[json.loads(line) for line in (r / "metrics.jsonl").read_text().splitlines()] for r in (one, two)]
    for key in ("kl_per_completion", "reward", "entropy", "grad_norm"):
        told = [[row[key] for row in run if row[key] is not None] for run in rows]  # the last has no update
        assert told[1] == pytest.approx(told[0], rel=0, abs=within)
    assert rows[0][-1]["kl_per_completion"] > 0
    rungs = [sorted(path.name for path in (r / "checkpoints").iterdir()) for r in (one, two)]
    assert rungs[0] == rungs[1]
    for name in rungs[0]:
        for file in (one / "checkpoints" / name).glob("*.safetensors"):
            assert apart(load_file(file), load_file(two / "checkpoints" / name / file.name)) <= within


@pytest.mark.slow
def test_two_processes_that_share_the_parameters_are_one_run(model_directory: Path, tmp_path: Path) -> None:
    for processes, name in ((1, "one"), (2, "two")):
        run(model_directory, tmp_path / name, processes, "--max_iterations", "4")
    require_same(tmp_path / "one", tmp_path / "two")
    rung = max((tmp_path / "two" / "checkpoints").iterdir())
    assert load_causal_lm(str(rung)).num_parameters() == load_causal_lm(str(model_directory)).num_parameters()


@pytest.mark.long
@pytest.mark.parametrize(
    "words",
    [
        "--use_peft --lora_r 4",
        "--train_scope last_layer",
        "--critic shared --beta 0.05",
        "--critic separate --beta 0.05 --gradient_checkpointing",
    ],
)
def test_adapters_scopes_critics_and_checkpointing(model_directory: Path, tmp_path: Path, words: str) -> None:
    for processes, name in ((1, "one"), (2, "two")):
        run(model_directory, tmp_path / name, processes, "--max_iterations", "3", *words.split())
    require_same(tmp_path / "one", tmp_path / "two")


@pytest.mark.long
def test_resuming_with_another_number_of_processes(model_directory: Path, tmp_path: Path) -> None:
    run(model_directory, tmp_path / "one", 1, "--max_iterations", "4")
    for first, then in ((2, 1), (1, 2)):
        output = tmp_path / f"{first}-{then}"
        run(model_directory, output, first, "--max_iterations", "2")
        run(model_directory, output, then, "--max_iterations", "4", "--resume")
        require_same(tmp_path / "one", output)


@pytest.mark.long
@pytest.mark.parametrize("words", ["--dtype float32 --bf16", "--dtype bfloat16 --use_peft --gradient_checkpointing"])
def test_in_bf16_the_first_kl_is_0_and_the_first_ratio_1(model_directory: Path, tmp_path: Path, words: str) -> None:
    extra = (*without(OPTIONS, ["--dtype"]), "--max_iterations", "1", *words.split())
    file = "accelerate_fsdp2.yaml"
    done = launch(model_directory, tmp_path / "run", processes=2, reward="full_stop", extra=extra, file=file)
    assert done.returncode == 0, done.stderr
    first = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["kl_per_completion"] == 0
    assert first["ratio_first_update_max_dev"] < 1e-5


SLOW_REWARD = """
import os, time
from rlhf.ppo import update
take = update.take_step
def slow_step(*given):
    open(f"in-update-{os.environ.get('RANK', '0')}-{time.time()}", "w").close()
    time.sleep(0.02)
    return take(*given)
update.take_step = slow_step
def slow(prompts, completions, completion_ids, **kwargs):
    open(f"at-{os.environ.get('RANK', '0')}-{time.time()}", "w").close()
    return [float(c.count(".")) for c in completions]
"""


# When which of two ranks is killed: what appears in the folder then, by SLOW_REWARD or of the run, and the rank.
MOMENTS = {
    "sampling": ("killed/state/000002", "1"),
    "the writer while it saves": ("killed/state/.*.tmp", "0"),
    "scoring": ("at-1-*", "1"),
    "update": ("in-update-1-*", "1"),
    "the writer in its update": ("in-update-0-*", "0"),
}


@pytest.mark.long
@pytest.mark.parametrize(
    ("file", "within"),
    [("accelerate_fsdp2.yaml", 1e-9), ("accelerate_config.yaml", 0.0)],
    ids=["cut in two", "data parallelism"],
)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_rank_ends_the_other_and_the_run_goes_on(
    model_directory: Path, tmp_path: Path, moment: str, file: str, within: float
) -> None:
    words = [*OPTIONS, "--model_name_or_path", str(model_directory)]
    kill_and_go_on(tmp_path, ROOT / file, words, *MOMENTS[moment])
    require_same(tmp_path / "whole", tmp_path / "killed", within)


def kill_and_go_on(folder: Path, file: Path, options: list[str], moment: str, rank: str) -> None:
    """Kill one of two ranks as the moment appears in the folder; leaves `killed`, gone on with, and `whole` to compare.

    The other rank must end within a minute, with one line that names the dead one.
    """
    (folder / "slow.py").write_text(SLOW_REWARD)
    words = [*options, "--max_completion_length", "12", "--quiet", "--reward_func", f"{folder / 'slow.py'}:slow"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT)}
    start = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(file)]
    start += ["--num_processes", "2", "--main_process_port", "0", "-m", "rlhf.ppo", *words]

    def command(output: str, iterations: int, *more: str) -> list[str]:
        return [*start, "--output_dir", str(folder / output), "--max_iterations", str(iterations), *more]

    with (folder / "said").open("w") as said:
        launched = subprocess.Popen(command("killed", 300), cwd=folder, env=environment, stderr=said)
        deadline = time.monotonic() + 120
        while not (folder / "killed" / "state" / "000002").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        for path in [*folder.glob("at-*"), *folder.glob("in-update-*")]:
            path.unlink(missing_ok=True)
        while not (come := any(folder.glob(moment))) and time.monotonic() < deadline:
            time.sleep(0.001)
        assert come
        ranks = [p for p in psutil.Process(launched.pid).children(recursive=True) if "rlhf.ppo" in p.cmdline()]
        victim = next(p for p in ranks if p.environ().get("RANK") == rank)
        victim.send_signal(signal.SIGKILL)
        killed = time.monotonic()
        assert launched.wait(60) != 0
        assert time.monotonic() - killed < 60
    lines = [line for line in (folder / "said").read_text().splitlines() if "got the end of rank" in line]
    assert len(lines) == 1
    assert f"got the end of rank {rank}" in lines[0]
    assert "--resume" in lines[0]
    reached = int(max((folder / "killed" / "state").glob("[0-9]*")).name)
    for output, more in (("killed", ["--resume"]), ("whole", [])):
        done = subprocess.run(command(output, reached + 1, *more), cwd=folder, env=environment, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()


def test_all_take_equally_many_steps() -> None:
    shares = [["a", "c"], ["b"], []]
    assert list(in_step(shares, 0, together=True)) == [("a", True), ("c", True)]
    assert list(in_step(shares, 1, together=True)) == [("b", True), ("a", False)]
    assert list(in_step(shares, 2, together=True)) == [("a", False), ("a", False)]
    assert list(in_step(shares, 2, together=False)) == []
    assert list(in_step([[], []], 1, together=True)) == []


def test_what_is_not_cut_is_whole(model: Any) -> None:
    copied = WholeCopy(model)
    copied.renew()
    assert copied.model is model
    assert whole(model.lm_head.weight) is own_part(model.lm_head.weight)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fsdp_version": 1}, "fsdp_version of the launch file: got 1; expected 2"),
        ({"activation_checkpointing": True}, "expected false; --gradient_checkpointing"),
    ],
)
def test_another_plan_is_refused(changes: dict[str, Any], message: str) -> None:
    plan = {"fsdp_version": 2, "activation_checkpointing": False}
    require_known_plan(SimpleNamespace(**plan))
    with pytest.raises(InputError, match=message):
        require_known_plan(SimpleNamespace(**(plan | changes)))
