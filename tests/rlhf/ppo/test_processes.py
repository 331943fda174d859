"""Real processes through `accelerate launch`: they see each other, share the work, and end with the same parameters."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from safetensors.torch import load_file
from torch.distributed import TCPStore

from rlhf.runs.ladder import read_rungs

from .conftest import without

ROOT = Path(__file__).parents[3]
OPTIONS = shlex.split(
    "--iteration_batch_size 128 --max_iteration_batch_size 256 --minibatch_size 32 --max_completion_length 12 "
    "--per_device_generation_batch_size 32 --learning_rate 3e-4 --num_eval_samples 64 --normalization_samples 128 "
    "--kl_budget 3 --max_iterations 3 --clip_ratio_low 0.9 --clip_ratio_high 0.95 --quiet"
)
# A reward function that writes down what its process scored.
WITNESS = """
import json, os
def witness(prompts, completions, completion_ids, **kwargs):
    with open(os.environ["WITNESS"] + os.environ.get("RANK", "0"), "a") as stream:
        stream.write(json.dumps(completions) + "\\n")
    return [float(c.count(".")) if "zz" not in c else None for c in completions]
"""


def launch(
    model: Path,
    output: Path,
    *,
    processes: int,
    reward: str,
    cpu: bool = True,
    extra: tuple[str, ...] = (),
    file: str = "accelerate_config.yaml",
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "WITNESS": str(output.parent / f"{output.name}-witness-")}
    environment.pop("ACCELERATE_USE_CPU", None)
    if cpu:
        environment["ACCELERATE_USE_CPU"] = "true"
    arguments = ["--model_name_or_path", str(model), "--reward_func", *reward.split(), "--output_dir", str(output)]
    start = [sys.executable, "-m"]
    if processes > 1:
        config = str(ROOT / file)
        start += ["accelerate.commands.launch", "--config_file", config, "--num_processes", str(processes), "-m"]
    command = [*start, "rlhf.ppo", *arguments, *without(OPTIONS, extra), *extra]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def reward_file(tmp_path: Path) -> str:
    (tmp_path / "witness.py").write_text(WITNESS)
    return f"{tmp_path / 'witness.py'}:witness"


# Best at two full stops: what a policy that is paid for more of them leaves behind.
WATCHED = """
def a_few(completions, **kwargs):
    return [-abs(2.0 - completion.count(".")) for completion in completions]
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("action", "file"),
    [
        ("halt", "accelerate_config.yaml"),
        ("roll_back", "accelerate_config.yaml"),
        ("roll_back", "accelerate_fsdp2.yaml"),
    ],
)
def test_a_guard_ends_two_processes_as_it_ends_one(
    model_directory: Path, tmp_path: Path, action: str, file: str
) -> None:
    (tmp_path / "watched.py").write_text(WATCHED)
    reward = f"full_stop {tmp_path / 'watched.py'}:a_few"
    guarded = shlex.split(
        f"--guard a_few --guard_action {action} --reward_weights 1 0 --dtype float64 --learning_rate 3e-3 "
        "--kl_budget 30 --max_iterations 16 --iteration_batch_size 64 --max_iteration_batch_size 64 "
        "--normalization_samples 64"
    )
    reasons, backs, strays = [], [], []
    for processes in (1, 2):
        output = tmp_path / str(processes)
        done = launch(model_directory, output, processes=processes, reward=reward, extra=tuple(guarded), file=file)
        assert done.returncode == 0, done.stderr
        reasons.append(json.loads((output / "run.json").read_text())["stop_reason"])
        lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
        backs.append(
            [(n, line["guard"]["back_to"]) for n, line in enumerate(lines) if "back_to" in (line["guard"] or {})]
        )
        strays.append(sorted(path.name for path in output.glob("strays/checkpoints/*")))
    assert reasons[1] == reasons[0]
    assert backs[1] == backs[0]
    assert strays[1] == strays[0]
    if action == "halt":
        assert reasons[0].startswith("guard: a_few stops rising at ")
    else:
        assert backs[0]
        assert strays[0]


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 1e-6)])
def test_two_processes_share_the_work_and_agree_with_one(
    model_directory: Path, reward_file: str, tmp_path: Path, dtype: str, tolerance: float
) -> None:
    one = launch(
        model_directory,
        tmp_path / "one",
        processes=1,
        reward=reward_file,
        extra=("--per_device_train_batch_size", "16", "--dtype", dtype),
    )
    assert one.returncode == 0, one.stderr
    two = launch(
        model_directory,
        tmp_path / "two",
        processes=2,
        reward=reward_file,
        extra=("--per_device_train_batch_size", "16", "--dtype", dtype),
    )
    assert two.returncode == 0, two.stderr
    record = json.loads((tmp_path / "two" / "run.json").read_text())
    assert record["world_size"] == 2
    assert record["distributed_type"] == "MULTI_CPU"
    # What the two scored: together what one scored, and nothing twice.
    scored = [
        [json.loads(line) for line in (tmp_path / f"{name}").read_text().splitlines()]
        for name in ("one-witness-0", "two-witness-0", "two-witness-1")
    ]
    assert "" in scored[0].pop(0)  # one process alone tries it before torch is loaded too
    early = [calls.pop(0) for calls in scored]  # tried on specimens before a model is loaded, on every process
    assert early[0] == early[1] == early[2]
    assert "" in early[0]
    tried = [calls.pop(0) for calls in scored[:2]]  # the trial before the run, on the first process alone
    assert tried[0] == tried[1]
    assert len(tried[0]) == 2
    for whole, first, second in zip(*scored, strict=True):
        assert len(first) == len(second) == len(whole) // 2
        assert first != second
        chunks = [whole[i : i + 32] for i in range(0, len(whole), 32)]
        assert [t for c in chunks[0::2] for t in c] == first
        assert [t for c in chunks[1::2] for t in c] == second
    sizes = [json.loads(x)["iteration_batch_size"] for x in (tmp_path / "two/metrics.jsonl").read_text().splitlines()]
    assert sizes[:2] == [128, 256]  # the controller grew the batch on both
    a, b = (load_file(tmp_path / n / "state" / "000003" / "parameters.safetensors") for n in ("one", "two"))
    assert max(float((a[k] - b[k]).abs().max()) for k in a) < tolerance
    assert [r.name for r in read_rungs(tmp_path / "one/ladder.json")] == [
        r.name for r in read_rungs(tmp_path / "two/ladder.json")
    ]


@pytest.mark.slow
def test_in_float64_one_process_and_two_are_one_run_to_its_end(model_directory: Path, tmp_path: Path) -> None:
    """In float32 such runs may part after some twenty iterations."""
    extra = shlex.split(
        "--iteration_batch_size 64 --max_iteration_batch_size 64 --per_device_train_batch_size 16 --learning_rate 1e-3 "
        "--max_iterations 40 --kl_budget 50 --ladder_step 7 --dtype float64"
    )
    for processes, name in ((1, "one"), (2, "two")):
        done = launch(model_directory, tmp_path / name, processes=processes, reward="full_stop", extra=tuple(extra))
        assert done.returncode == 0, done.stderr
    lines = [
        [json.loads(line) for line in (tmp_path / n / "metrics.jsonl").read_text().splitlines()] for n in ("one", "two")
    ]
    assert [len(rows) for rows in lines] == [41, 41]
    for key in ("kl_per_completion", "reward"):
        assert [row[key] for row in lines[1]] == pytest.approx([row[key] for row in lines[0]], abs=1e-9)
    assert lines[0][-1]["kl_per_completion"] > 3  # far enough for one token to differ, were there rounding
    a, b = (load_file(tmp_path / n / "state" / "000040" / "parameters.safetensors") for n in ("one", "two"))
    assert max(float((a[k] - b[k]).abs().max()) for k in a) < 1e-9


def test_why_layouts_part_in_float32_is_told() -> None:
    told = " ".join((ROOT / "docs" / "design.md").read_text(encoding="utf-8").split())
    assert "Updates add gradients in another order on another layout; in float32 a uniform number can then fall" in told
    assert "Where layouts must agree to the end take `--dtype float64`" in told


@pytest.mark.slow
@pytest.mark.parametrize("critic", ["shared", "separate"])
def test_two_processes_agree_with_one_on_a_critic(model_directory: Path, tmp_path: Path, critic: str) -> None:
    extra = ("--critic", critic, "--beta", "0.05", "--per_device_train_batch_size", "16", "--dtype", "float64")
    for processes, name in ((1, "one"), (2, "two")):
        done = launch(model_directory, tmp_path / name, processes=processes, reward="full_stop", extra=extra)
        assert done.returncode == 0, done.stderr
    a, b = (load_file(tmp_path / n / "state" / "000003" / "parameters.safetensors") for n in ("one", "two"))
    assert a["value_head.weight"].abs().sum() > 0
    assert max(float((a[k] - b[k]).abs().max()) for k in a) < 1e-9
    lines = [
        [json.loads(line) for line in (tmp_path / n / "metrics.jsonl").read_text().splitlines()] for n in ("one", "two")
    ]
    for one, two in zip(*lines, strict=True):
        for key in ("explained_variance", "value_loss", "value_clip_ratio", "advantage_std"):
            assert (one[key] is None) == (two[key] is None)
            assert one[key] is None or two[key] == pytest.approx(one[key], abs=1e-9)
    assert lines[0][1]["explained_variance"] != 0.0


@pytest.mark.slow
def test_processes_that_do_not_see_each_other_write_nothing(model_directory: Path, tmp_path: Path) -> None:
    done = launch(model_directory, tmp_path / "run", processes=2, reward="full_stop", cpu=False)
    assert done.returncode != 0
    ours = [line for line in done.stderr.splitlines() if line.startswith("rlhf: ")]
    assert len(ours) == 1
    assert "2 processes that each see only 1" in ours[0]
    assert "ACCELERATE_USE_CPU=true" in ours[0]
    assert not (tmp_path / "run").exists()


def test_processes_that_accelerate_leaves_out_are_noticed(tmp_path: Path) -> None:
    """`--cpu` starts one process whatever was asked for, and says nothing: in the command line and in a file alike."""
    file = tmp_path / "cpu.yaml"
    file.write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_CPU\nuse_cpu: true\nnum_processes: 3\n"
    )
    code = "from rlhf.ppo.distributed import _processes_asked_for as n; print('asked for', n())"
    (tmp_path / "told.py").write_text(code)
    environment = {key: value for key, value in os.environ.items() if key != "WORLD_SIZE"} | {"PYTHONPATH": str(ROOT)}
    for options, expected in (
        (["--cpu", "--num_processes", "2"], 2),
        (["--cpu", "--num_processes=1"], 1),
        (["--config_file", str(file)], 3),
    ):
        command = [sys.executable, "-m", "accelerate.commands.launch", *options, str(tmp_path / "told.py")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert f"asked for {expected}" in done.stdout.splitlines()


@pytest.mark.slow
def test_one_process_where_two_were_asked_for_writes_nothing(model_directory: Path, tmp_path: Path) -> None:
    words = ["--model_name_or_path", str(model_directory), "--reward_func", "full_stop", "--output_dir", "run"]
    start = ["accelerate.commands.launch", "--cpu", "--num_processes", "2", "-m", "rlhf.ppo"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", *start, *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("rlhf: ")]
    assert line.startswith("rlhf: accelerate launch: got one process; expected the 2 processes that were asked for")
    assert not (tmp_path / "run").exists()


FILES = {"accelerate_config.yaml": "MULTI_GPU", "accelerate_fsdp2.yaml": "FSDP", "accelerate_zero3.yaml": "DEEPSPEED"}


@pytest.mark.parametrize("file", FILES)
def test_accelerate_s_loader_parses_every_file(file: str) -> None:
    config = load_config_from_file(str(ROOT / file))
    assert config.distributed_type.value == FILES[file]
    # The loader takes any key below its sections; the launcher would pass over one that it does not know.
    known = {action.dest for action in launch_command_parser()._actions}
    for section in (config.fsdp_config, config.deepspeed_config):
        assert set(section) <= known
    assert file in (ROOT / "docs" / "processes.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_deepspeed_that_is_not_there_is_one_line(model_directory: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "ACCELERATE_USE_DEEPSPEED": "true"}  # as the launcher sets it
    arguments = ["--model_name_or_path", str(model_directory), "--reward_func", "full_stop"]
    command = [sys.executable, "-m", "rlhf.ppo", *arguments, "--output_dir", str(tmp_path / "run")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("rlhf: accelerate launch: got DeepSpeed is not")
    assert "install or start what is missing" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_mistake_on_two_processes_is_told_once(model_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("x")
    done = launch(model_directory, tmp_path / "run", processes=2, reward="full_stop")
    assert [line for line in done.stderr.splitlines() if line.startswith("rlhf: ")] == [
        "rlhf: 2 processes, distributed type MULTI_CPU",
        f"rlhf: --output_dir: got {tmp_path / 'run'}, not empty; expected a new or empty directory; "
        "give --resume to continue the run in it, --overwrite to replace that, or choose another directory",
    ]


@pytest.mark.slow
def test_what_stops_one_process_is_told_once_by_it(model_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "reward.py").write_text(
        "import os, sys\ncalls = 0\ndef leaves(prompts, completions, completion_ids, **kwargs):\n"
        "    global calls\n    calls += 1\n    if calls == 5 and os.environ['RANK'] == '1':\n        sys.exit(0)\n"
        "    return [float(c.count('.')) for c in completions]\n"
    )
    done = launch(model_directory, tmp_path / "run", processes=2, reward=f"{tmp_path / 'reward.py'}:leaves")
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("rlhf: ")][1:]
    assert "reward function leaves: got SystemExit: 0" in line


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["0", "1"])
def test_a_killed_process_is_told_once_without_a_traceback(model_directory: Path, tmp_path: Path, victim: str) -> None:
    # The process of this rank kills itself in the second rollout's update; its launcher tells in its own words.
    (tmp_path / "reward.py").write_text(
        "import os, signal\ncalls = 0\ndef deadly(prompts, completions, completion_ids, **kwargs):\n"
        "    global calls\n    calls += 1\n"
        f"    if calls == 5 and os.environ['RANK'] == '{victim}':\n        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return [float(c.count('.')) for c in completions]\n"
    )
    done = launch(model_directory, tmp_path / "run", processes=2, reward=f"{tmp_path / 'reward.py'}:deadly")
    assert done.returncode != 0
    ours = [line for line in done.stderr.splitlines() if line.startswith("rlhf: ")][1:]
    assert len(ours) == 1, done.stderr
    assert "continue with the same command and --resume" in ours[0]
    if "a process of this run" in ours[0]:  # else the launcher's own signal came first
        assert f"got the end of rank {victim};" in ours[0]
    assert "this is a fault of ours" not in done.stderr
    assert "rlhf/cli.py" not in done.stderr  # no traceback but the launcher's


def test_the_store_listens_on_all_interfaces_as_the_page_says() -> None:
    """docs/processes.md says how to close the port; once torch can bind it, the page is to say that."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()]
    listening = {row[1] for row in rows if row[3] == "0A"}
    assert listening & {f"{'0' * 8}:{store.port:04X}", f"{'0' * 32}:{store.port:04X}"}
    assert "listens on all interfaces" in (ROOT / "docs/processes.md").read_text()
