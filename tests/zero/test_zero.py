"""ZeRO-3 and ZeRO-2 on two processes (gloo) give the run of one process; what is saved is whole.

In float32, the one precision that DeepSpeed has masters in: gradients are summed in another order, and Adam divides a
small difference by a small moment, so parameters may end a few 1e-6 apart.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest

from rlhf.foundation.model_directory import load_causal_lm
from tests.rlhf.ppo.conftest import without
from tests.rlhf.ppo.test_processes import ROOT, launch
from tests.rlhf.ppo.test_sharding import MOMENTS, kill_and_go_on, require_same

pytestmark = pytest.mark.deepspeed
ROUNDING = 5e-6
OPTIONS = shlex.split(
    "--iteration_batch_size 64 --max_iteration_batch_size 64 --minibatch_size 32 --per_device_generation_batch_size 16 "
    "--per_device_train_batch_size 8 --num_eval_samples 24 --normalization_samples 40 --learning_rate 1e-3 "
    "--kl_budget 30"
)


@pytest.fixture(params=[3, 2])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The launch file as it is shipped, and with the other stage."""
    shipped = (ROOT / "accelerate_zero3.yaml").read_text(encoding="utf-8")
    written = tmp_path / "accelerate.yaml"
    written.write_text(shipped.replace("zero_stage: 3", f"zero_stage: {request.param}"), encoding="utf-8")
    return written


def start(
    model: Path, output: Path, file: Path, processes: int, *words: str, reward: str = "full_stop"
) -> subprocess.CompletedProcess[str]:
    options = (*without(OPTIONS, words), *words)
    return launch(model, output, processes=processes, reward=reward, extra=options, file=str(file))


def run(model: Path, output: Path, file: Path, processes: int, *words: str) -> None:
    done = start(model, output, file, processes, *words)
    assert done.returncode == 0, done.stderr
    if processes > 1 and "--resume" not in words:
        assert json.loads((output / "run.json").read_text())["distributed_type"] == "DEEPSPEED"


def test_two_processes_are_one_run(model_directory: Path, tmp_path: Path, file: Path) -> None:
    for processes, name in ((1, "one"), (2, "two")):
        run(model_directory, tmp_path / name, file, processes, "--max_iterations", "4")
    require_same(tmp_path / "one", tmp_path / "two", ROUNDING)
    rung = max((tmp_path / "two" / "checkpoints").iterdir())
    assert load_causal_lm(str(rung)).num_parameters() == load_causal_lm(str(model_directory)).num_parameters()


def test_resuming_with_another_number_of_processes(model_directory: Path, tmp_path: Path, file: Path) -> None:
    run(model_directory, tmp_path / "one", file, 1, "--max_iterations", "4")
    for first, then in ((2, 2), (2, 1), (1, 2)):
        output = tmp_path / f"{first}-{then}"
        run(model_directory, output, file, first, "--max_iterations", "2")
        run(model_directory, output, file, then, "--max_iterations", "4", "--resume")
        require_same(tmp_path / "one", output, ROUNDING)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_rank_ends_the_other_and_the_run_goes_on(
    model_directory: Path, tmp_path: Path, file: Path, moment: str
) -> None:
    kill_and_go_on(tmp_path, file, [*OPTIONS, "--model_name_or_path", str(model_directory)], *MOMENTS[moment])
    require_same(tmp_path / "whole", tmp_path / "killed", ROUNDING)


@pytest.mark.parametrize(
    "words",
    [
        "--use_peft --lora_r 4",
        "--train_scope last_layer",
        "--critic shared --beta 0.05",
        "--critic separate --beta 0.05 --gradient_checkpointing",
        "--kl_gradient exact --beta 0.05",
        "--kl_budget 1.2",
    ],
)
def test_adapters_scopes_critics_and_the_landing(model_directory: Path, tmp_path: Path, file: Path, words: str) -> None:
    for processes, name in ((1, "one"), (2, "two")):
        run(model_directory, tmp_path / name, file, processes, "--max_iterations", "3", *words.split())
    require_same(tmp_path / "one", tmp_path / "two", ROUNDING)


# While a chunk is sampled the policy is whole on each process, at the reward and in between it lies in parts.
WATCHED = """
from rlhf.foundation.causal_lm import shape_of
from rlhf.ppo import who_samples
sample, seen = who_samples.generate, []
def watched(model, *given, **named):
    assert all(p.shape == shape_of(p) for p in model.parameters()), "not gathered before it samples"
    done = sample(model, *given, **named)
    assert all(p.shape == shape_of(p) for p in model.parameters()), "not gathered while it samples"
    seen.append(model)
    return done
who_samples.generate = watched
def parted(prompts, completions, completion_ids, **kwargs):
    assert all(p.numel() == 0 and p.ds_tensor.numel() < shape_of(p).numel() for m in seen for p in m.parameters())
    if seen:
        print("rlhf-test: gathered, and parted again", flush=True)
    return [float(c.count(".")) for c in completions]
"""


def test_the_policy_is_gathered_while_it_samples_and_at_no_other_time(model_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "watched.py").write_text(WATCHED)
    words = ("--max_iterations", "2")
    shipped = ROOT / "accelerate_zero3.yaml"
    done = start(model_directory, tmp_path / "run", shipped, 2, *words, reward=f"{tmp_path / 'watched.py'}:parted")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("rlhf-test: gathered, and parted again") >= 4


def test_in_bf16_the_first_kl_is_0_and_the_first_ratio_1(model_directory: Path, tmp_path: Path, file: Path) -> None:
    run(model_directory, tmp_path / "run", file, 2, "--max_iterations", "1", "--bf16")
    first = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["kl_per_completion"] == 0
    assert first["ratio_first_update_max_dev"] < 1e-5


@pytest.mark.parametrize("words", ["--dtype float64", "--dtype bfloat16 --use_peft"])
def test_another_precision_is_refused(model_directory: Path, tmp_path: Path, words: str) -> None:
    done = start(model_directory, tmp_path / "run", ROOT / "accelerate_zero3.yaml", 2, *words.split())
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("rlhf: --")]
    assert "under DeepSpeed; expected float32 there" in line


@pytest.mark.parametrize(
    ("asked", "instead", "message"),
    [
        ("zero_stage: 3", "zero_stage: 1", "zero_stage of the launch file: got 1; expected 2 or 3"),
        ("offload_param_device: none", "offload_param_device: cpu", "offload of the launch file"),
    ],
)
def test_another_plan_is_refused(model_directory: Path, tmp_path: Path, asked: str, instead: str, message: str) -> None:
    shipped = (ROOT / "accelerate_zero3.yaml").read_text(encoding="utf-8")
    (tmp_path / "other.yaml").write_text(shipped.replace(asked, instead), encoding="utf-8")
    done = start(model_directory, tmp_path / "run", tmp_path / "other.yaml", 2)
    assert done.returncode != 0
    assert message in done.stderr
