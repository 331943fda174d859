"""The same from Python: InputError in one line, whatever type is given; and sizes beyond the machine."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labeling.answers import collect
from labeling.by_rule import simulate_labels
from labeling.folder import Folder
from rewards.calling import call_reward
from rewards.loading import load_reward, load_reward_model
from rewards.rules import full_stop, length
from rlhf import PPOConfig, PPOTrainer
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import Sample, read_comparisons, read_labels, read_samples
from tests.campaign.bad_values import expected_of
from tests.campaign.commands import BY_NAME
from tests.campaign.told_in_one_line import Place

SMALL: dict[str, Any] = {
    "iteration_batch_size": 16, "max_iteration_batch_size": 16, "minibatch_size": 16, "max_completion_length": 6,
    "num_eval_samples": 8, "normalization_samples": 16, "max_iterations": 1, "quiet": True, "use_cpu": True,
}  # fmt: skip


def trainer(model: Any = "model", reward: Any = length, rows: Any = None, **options: Any) -> PPOTrainer:
    """A trainer on the material; nothing is run."""
    return PPOTrainer(model, reward, PPOConfig(output_dir="new", **(SMALL | options)), train_dataset=rows)


SAMPLE = [Sample("u", "", "a", "m")]
REFUSED: dict[str, Callable[[], Any]] = {
    "model a number": lambda: trainer(3),
    "model none": lambda: trainer(None),
    "model a list": lambda: trainer(["model"]),
    "model a missing path": lambda: trainer(Path("nowhere/at/all")),
    "model a file": lambda: trainer("samples.jsonl"),
    "no rewards": lambda: trainer(reward=[]),
    "rewards none": lambda: trainer(reward=None),
    "rewards a number": lambda: trainer(reward=3),
    "rewards a list of numbers": lambda: trainer(reward=[3]),
    "rewards a missing name": lambda: trainer(reward="nosuch"),
    "rows of texts": lambda: trainer(rows=["a", "b"]),
    "rows a text": lambda: trainer(rows="abc"),
    "rows a number": lambda: trainer(rows=3),
    "rows empty": lambda: trainer(rows=[]),
    "rows without prompt": lambda: trainer(rows=[{"text": "a"}]),
    "rows with a number": lambda: trainer(rows=[{"prompt": 3}]),
    "rows with none": lambda: trainer(rows=[{"prompt": None}]),
    "rows with half a character": lambda: trainer(rows=[{"prompt": "\ud800"}]),
    "rows of two kinds": lambda: trainer(rows=[{"prompt": "a"}, {"prompt": [{"role": "user", "content": "a"}]}]),
    "rows mapping": lambda: trainer(rows={"prompt": ["a"]}),
    "weights too many": lambda: trainer(reward_weights=[1.0, 2.0]),
    "size text": lambda: PPOConfig(output_dir="a", iteration_batch_size="16"),  # type: ignore[arg-type]
    "size float": lambda: PPOConfig(output_dir="a", iteration_batch_size=16.0),  # type: ignore[arg-type]
    "size true": lambda: PPOConfig(output_dir="a", iteration_batch_size=True),
    "rate nan": lambda: PPOConfig(output_dir="a", learning_rate=math.nan),
    "iterations text": lambda: PPOConfig(output_dir="a", max_iterations="1"),  # type: ignore[arg-type]
    "size 32.0": lambda: PPOConfig(output_dir="a", iteration_batch_size=32.0),  # type: ignore[arg-type]
    "seed of 70 bits": lambda: PPOConfig(output_dir="a", seed=2**70),
    "rate none": lambda: PPOConfig(output_dir="a", learning_rate=None),  # type: ignore[arg-type]
    "directory none": lambda: PPOConfig(output_dir=None),  # type: ignore[arg-type]
    "directory empty": lambda: PPOConfig(output_dir=""),
    "directory bytes": lambda: PPOConfig(output_dir=b"a"),  # type: ignore[arg-type]
    "idle option": lambda: PPOConfig(output_dir="a", gamma=0.5),
    "more than memory": lambda: trainer(iteration_batch_size=16 * 10**10, max_iteration_batch_size=16 * 10**10),
    "reward model missing": lambda: load_reward_model("nowhere"),
    "reward model a model": lambda: load_reward_model("model"),
    "reward a file": lambda: load_reward("mine.py"),
    "reward empty": lambda: load_reward(""),
    "reward NUL": lambda: load_reward("a\0b"),
    "reward long": lambda: load_reward("x" * 300),
    "calls a number": lambda: call_reward(lambda completions: 3.0, [""], ["a"]),  # type: ignore[arg-type, return-value]
    "calls a text": lambda: call_reward(lambda completions: "a", [""], ["a"]),  # type: ignore[arg-type, return-value]
    "calls a dict": lambda: call_reward(lambda completions: {"a": 1}, [""], ["a"]),  # type: ignore[arg-type, return-value]
    "calls too few": lambda: call_reward(lambda completions: [], [""], ["a"]),
    "calls nan": lambda: call_reward(lambda completions: [math.nan], [""], ["a"]),
    "calls complex": lambda: call_reward(lambda completions: [1j], [""], ["a"]),  # type: ignore[list-item]
    "calls huge": lambda: call_reward(lambda completions: [10**400], [""], ["a"]),
    "calls another name": lambda: call_reward(lambda wrong: [1.0], [""], ["a"]),
    "samples a directory": lambda: read_samples(Path("run")),
    "labels of samples": lambda: read_labels(Path("samples.jsonl")),
    "comparisons of labels": lambda: read_comparisons(Path("labels.jsonl")),
    "noise": lambda: simulate_labels(SAMPLE, lambda *_: "neutral", annotator="a", noise=2, seed=0),  # type: ignore
    "folder": lambda: collect(Folder(Path("run")), [Path("answers.json")]),
    "folder missing": lambda: Folder(Path("nowhere")).need_plan(),
}  # fmt: skip


@pytest.mark.parametrize("call", REFUSED.values(), ids=list(REFUSED))
def test_refused_in_one_line(place: Place, call: Callable[[], Any]) -> None:
    with pytest.raises(InputError) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert "got " in str(caught.value)
    assert not (place.folder / "new").exists()


FLOATS = [field.name for field in dataclasses.fields(PPOConfig) if expected_of(BY_NAME["ppo"], field).item is float]


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 10**400])
@pytest.mark.parametrize("name", FLOATS)
def test_no_float_is_infinite(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"^--{name}: got .*; expected a"):
        PPOConfig(output_dir="a", **{name: value})  # type: ignore[arg-type]


def test_paths_and_single_values_are_taken(place: Place) -> None:
    trainer(Path("model"), full_stop)
    assert PPOConfig(output_dir=Path("a")).output_dir == "a"  # type: ignore[arg-type]
    trainer(reward="length")
    trainer(reward=[length, "mine.py:mine"], reward_weights=[1, 2])


SIZES = [
    ("sample", "num_samples"), ("sample", "num_return_sequences"), ("sample", "max_new_tokens"),
    ("ppo", "max_iteration_batch_size"), ("ppo", "normalization_samples"), ("ppo", "num_eval_samples"),
    ("evaluate", "num_samples"), ("evaluate", "best_of_n_samples"), ("probe", "candidates"),
    ("rate push", "num_samples"), ("demo", "num_labels"), ("loop", "num_labels"),
    ("pretrain", "block_size"), ("pretrain", "num_hidden_layers"), ("pretrain", "per_device_train_batch_size"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "option"), SIZES, ids=lambda v: v.replace(" ", "_"))
def test_more_than_memory_holds(place: Place, name: str, option: str) -> None:
    further = {"ppo": {}, "sample": {}}.get(name, {})
    line = place.refused(*BY_NAME[name].call(**further, **{option: str(16 * 10**11)}), says=f"--{option}: got")
    assert "GB of memory would be needed" in line
