"""Callbacks and a real tracker see what metrics.jsonl holds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import GPT2LMHeadModel, TrainerCallback

from rewards.rules import full_stop
from rlhf import PPOConfig, PPOTrainer
from rlhf.foundation.errors import InputError
from rlhf.foundation.model_directory import save_model
from rlhf.foundation.records import read_samples
from rlhf.runs.ladder import read_rungs


def configure(directory: Path, **options: Any) -> PPOConfig:
    return PPOConfig(
        output_dir=str(directory), iteration_batch_size=64, minibatch_size=32, max_completion_length=12, quiet=True,
        num_eval_samples=16, normalization_samples=128, max_iterations=3, **options,
    )  # fmt: skip


class Witness(TrainerCallback):
    """Writes down what it is called with, and can ask to stop."""

    def __init__(self, stop_after: int = 99) -> None:
        self.calls: list[str] = []
        self.logged: list[dict[str, float]] = []
        self.stop_after = stop_after

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.calls.append("begin")

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self.logged.append(logs)
        control.should_training_stop = len(self.logged) >= self.stop_after

    def on_save(self, *args: Any, **kwargs: Any) -> None:
        self.calls.append("rung")

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        self.calls.append("end")


def test_callbacks_see_every_line_and_every_rung(model: GPT2LMHeadModel, tokenizer: Any, tmp_path: Path) -> None:
    witness = Witness()
    trainer = PPOTrainer(model, full_stop, configure(tmp_path / "run"), processing_class=tokenizer, callbacks=[witness])
    run = trainer.train()
    lines = [json.loads(line) for line in (run.directory / "metrics.jsonl").read_text().splitlines()]
    assert [logs["reward"] for logs in witness.logged] == [line["reward"] for line in lines]
    assert witness.calls[0] == "begin"
    assert witness.calls[-1] == "end"
    assert witness.calls.count("rung") == len(trainer.ladder.rungs)


def test_a_callback_can_stop_the_run(model: GPT2LMHeadModel, tokenizer: Any, tmp_path: Path) -> None:
    run = PPOTrainer(
        model, full_stop, configure(tmp_path / "run"), processing_class=tokenizer, callbacks=[Witness(stop_after=1)]
    ).train()
    assert len((run.directory / "metrics.jsonl").read_text().splitlines()) == 2
    assert run.stop_reason == "a callback asked to stop"


def test_tensorboard_holds_the_metrics(model: GPT2LMHeadModel, tokenizer: Any, tmp_path: Path) -> None:
    config = configure(tmp_path / "run", report_to=["tensorboard"])
    run = PPOTrainer(model, full_stop, config, processing_class=tokenizer).train()
    events = sorted(run.directory.rglob("events.out.tfevents*"))
    assert events
    values: dict[str, list[float]] = {}
    for path in events:
        accumulator = EventAccumulator(str(path.parent)).Reload()
        for tag in accumulator.Tags()["scalars"]:
            values.setdefault(tag, [event.value for event in accumulator.Scalars(tag)])
    lines = [json.loads(line) for line in (run.directory / "metrics.jsonl").read_text().splitlines()]
    assert values["train/kl_per_completion"] == pytest.approx([line["kl_per_completion"] for line in lines])


def test_tensorboard_holds_a_table_of_samples_a_rung(model: GPT2LMHeadModel, tokenizer: Any, tmp_path: Path) -> None:
    run = PPOTrainer(
        model, full_stop, configure(tmp_path / "run", report_to=["tensorboard"]), processing_class=tokenizer
    ).train()
    (path,) = run.directory.rglob("events.out.tfevents*")
    accumulator = EventAccumulator(str(path.parent)).Reload()
    for rung in read_rungs(run.directory / "ladder.json"):
        (event,) = accumulator.Tensors(f"samples/{rung.name}/text_summary")
        lines = event.tensor_proto.string_val[0].decode().splitlines()
        assert lines[0] == "| prompt | completion | reward | logprob |"
        first = read_samples(run.directory / rung.samples)[0]
        assert f"{first.reward:.3f}" in lines[2]
        assert len(lines) == 2 + 16  # all evaluation samples


@pytest.mark.slow
def test_trackio_holds_the_metrics_and_the_samples(
    model: GPT2LMHeadModel, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    # trackio reads its directory when it is imported, so the run has a process of its own.
    save_model(model, tokenizer, tmp_path / "model")
    words = [
        "--model_name_or_path", tmp_path / "model", "--reward_func", "full_stop", "--output_dir", tmp_path / "run",
        "--iteration_batch_size", 64, "--minibatch_size", 32, "--max_completion_length", 12, "--num_eval_samples", 16,
        "--normalization_samples", 128, "--max_iterations", 3, "--quiet", "--report_to", "trackio",
    ]  # fmt: skip
    done = subprocess.run([sys.executable, "-m", "rlhf.ppo", *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    read = (
        "import json, sys; from trackio.sqlite_storage import SQLiteStorage as s;"
        "print(json.dumps(s.get_logs('rlhf', 'run')))"
    )
    logs = json.loads(subprocess.run([sys.executable, "-c", read], capture_output=True, text=True, check=True).stdout)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    logged = [row["train/kl_per_completion"] for row in logs if "train/kl_per_completion" in row]
    assert logged == pytest.approx([line["kl_per_completion"] for line in lines])
    for rung in read_rungs(tmp_path / "run" / "ladder.json"):
        (table,) = (row[f"samples/{rung.name}"] for row in logs if f"samples/{rung.name}" in row)
        samples = read_samples(tmp_path / "run" / rung.samples)
        assert [row["completion"] for row in table["_value"]] == [sample.completion for sample in samples]


def test_an_unknown_tracker_is_one_line(model: GPT2LMHeadModel, tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--report_to: got notebook_of_doom"):
        PPOTrainer(
            model, full_stop, configure(tmp_path / "run", report_to=["notebook_of_doom"]), processing_class=tokenizer
        )
